"""Addresses of the upstream servers of a gateway."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import quote

from core.address import host_port, is_ip_address, split_host_port

log = logging.getLogger(__name__)


class UpstreamAddresses:
    """Resolver of the addresses HOST:PORT in `servers` to addresses IP:PORT.

    gRPC resolves a name again only after a connection was lost, so gRPC alone would not detect new servers.
    """

    def __init__(self, servers: Sequence[str]) -> None:
        self._servers = servers
        self._found: dict[str, tuple[str, ...]] = {}
        self._failures: dict[str, str] = {}

    @property
    def authority(self) -> str:
        """The address HOST:PORT of the first server. The certificates of all servers must be valid for this address."""
        return self._servers[0]

    async def resolve(self) -> tuple[str, ...]:
        """Return the sorted addresses of all servers.

        If a host name cannot be resolved now, the addresses that were last found for the host name are returned.
        """
        found = await asyncio.gather(*map(self._resolve, self._servers))
        return tuple(sorted({address for addresses in found for address in addresses}))

    async def _resolve(self, server: str) -> tuple[str, ...]:
        host, port = split_host_port(server)
        if is_ip_address(host):
            return (host_port(host, port),)
        try:
            rows = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            reason = error.strerror or str(error)
            if self._failures.get(server) != reason:
                log.warning("cannot resolve the upstream server %s: %s", server, reason)
            self._failures[server] = reason
            return self._found.get(server, ())
        self._failures.pop(server, None)
        # A server with an IPv4 and an IPv6 address would be counted as two servers.
        by_family = {family: {str(row[4][0]) for row in rows if row[0] is family} for family in _FAMILIES}
        hosts = by_family[socket.AF_INET] or by_family[socket.AF_INET6]
        self._found[server] = tuple(host_port(one, port) for one in hosts)
        return self._found[server]


_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def channel_target(addresses: Sequence[str]) -> str:
    """Return the target of a gRPC channel that connects to all `addresses`. Each address has the form IP:PORT.

    All addresses of a gRPC target must have the same IP version. If `addresses` contains both IPv4 and IPv6 addresses,
    the IPv4 addresses are written as IPv6 addresses (RFC 4291).
    """
    pairs = [(ip_address(host), port) for host, port in map(split_host_port, addresses)]
    if all(isinstance(host, IPv4Address) for host, _ in pairs):
        return f"ipv4:{','.join(addresses)}"
    mapped = [(IPv6Address(f"::ffff:{host}") if isinstance(host, IPv4Address) else host, port) for host, port in pairs]
    return f"ipv6:{','.join(quote(host_port(str(host), port), safe='[]:') for host, port in mapped)}"
