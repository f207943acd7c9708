"""Network addresses and origins of web pages as text."""

import re
from ipaddress import ip_address

ANY_ORIGIN = "*"
"""Value that represents the origins of all web pages."""
_HOST_PORT = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._~-]+))(?::[0-9]{1,5})?", re.IGNORECASE)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/]+)")
_MAX_PORT = 65535
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def host_port(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether the IP address or host name `host` is reachable only from this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def is_ip_address(host: str) -> bool:
    """Return whether `host` is an IP address and not a host name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def host_of(text: str) -> str | None:
    """Return the host in the address `text` in lower case and without brackets.

    The address has the form HOST[:PORT]. If `text` is not valid, None is returned.
    """
    match = _HOST_PORT.fullmatch(text)
    return None if match is None else (match[1] or match[2]).lower()


def split_host_port(text: str) -> tuple[str, int]:
    """Return the host without brackets and the port of the address `text`, which has the form HOST:PORT.

    Raises ValueError if `text` is not valid.
    """
    host, _, port = text.rpartition(":")
    if host_of(text) is None or not host or not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
        raise ValueError(f"must be HOST:PORT, got {text!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def normalized_origin(text: str) -> str | None:
    """Return the origin `text` in the form that browsers send: in lower case and without a default port.

    The origin has the form SCHEME://HOST[:PORT].

    Return None if `text` is not valid.
    """
    match = _ORIGIN.fullmatch(text.lower())
    if match is None or host_of(match[2]) is None:
        return None
    return f"{match[1]}://{match[2].removesuffix(_DEFAULT_PORTS.get(match[1], '/'))}"
