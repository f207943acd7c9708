"""Rules that decide which web pages may use a server, and which host names requests may contain.

The rules protect the server against malicious web pages.
"""

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from codec_wire.errors import Forbidden, truncated_repr
from core.address import ANY_ORIGIN, host_of, is_ip_address, is_loopback, normalized_origin


class OriginPolicy:
    """The rules for the Host and Origin headers of requests.

    Browsers send the origin of the page with every POST request, and with every cross-origin request whose response the
    page may read. Other clients do not send an origin and are not restricted.

    A page may use the server if its origin is one of `allowed_origins` or the origin of `public_url`. By default,
    `allowed_origins` contains the origins of localhost and loopback addresses. A page with the server's own origin may
    use the server if the host in this origin is an IP address or localhost. Pages of the
    server that were opened by another host name than localhost are not allowed. The owner of a host name could let
    the name resolve to the server's address. In a DNS rebinding attack, the pages of the attacker have the origin of
    the server.

    A server that listens on a loopback `address` also refuses requests for all host names except localhost, loopback
    addresses and the hosts of `public_url` and `allowed_origins`.
    """

    def __init__(
        self,
        allowed_origins: Iterable[str] | None = None,
        public_url: str | None = None,
        address: str | None = None,
    ) -> None:
        """Create the policy.

        `allowed_origins` must be normalized by AccessSettings. The value "*" in `allowed_origins` allows every origin
        and every host.
        """
        self._allows_loopback = allowed_origins is None
        self._origins = {*(allowed_origins or ()), *_origin_of(public_url)}
        self._hosts = {host_of(origin.partition("://")[2]) for origin in self._origins}
        self.allows_all = ANY_ORIGIN in self._origins
        """Whether pages of every origin may use the server."""
        self._checks_hosts = address is not None and is_loopback(address) and not self.allows_all
        self._allows_host = lru_cache(maxsize=64)(self._is_allowed_host)  # most requests have the same host

    def require_host(self, host: str | None) -> None:
        """Raise Forbidden unless `host` is an allowed Host header.

        `host` has the value None if the Host header is missing, as is allowed in HTTP/1.0.
        """
        if host is not None and self._checks_hosts and not self._allows_host(host):
            raise Forbidden(
                f"Host {truncated_repr(host)} is not allowed: this server listens on a loopback address, so Host "
                "must be localhost, a loopback address or the host of CODEC_PUBLIC_URL"
            )

    def _is_allowed_host(self, host: str) -> bool:
        name = host_of(host)
        return name is not None and (is_loopback(name) or name in self._hosts)

    def require_origin(self, origin: str, host: str | None) -> None:
        """Raise Forbidden unless pages of `origin` may send requests whose Host header is `host`."""
        if not self._allows_origin(origin.lower(), (host or "").lower()):
            raise Forbidden(
                f"pages of the origin {truncated_repr(origin)} may not use this server; the setting "
                "CODEC_ALLOWED_ORIGINS can allow this origin"
            )

    def _allows_origin(self, origin: str, host: str) -> bool:
        if self.allows_all or origin in self._origins:
            return True
        _, separator, authority = origin.partition("://")
        name = host_of(authority) if separator else None
        if name is None:  # e.g. "null", the origin of sandboxed frames of any page
            return False
        if is_loopback(name):
            return self._allows_loopback or authority == host
        return authority == host and is_ip_address(name)


def _origin_of(url: str | None) -> set[str]:
    """Return a set with the origin of `url`. The set is empty if `url` is missing or has no valid origin."""
    parts = urlsplit(url or "")
    origin = normalized_origin(f"{parts.scheme}://{parts.netloc}")
    return set() if origin is None else {origin}
