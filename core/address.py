"""Network addresses as text."""


def host_port(host: str, port: int) -> str:
    """Return HOST:PORT, with brackets around an IPv6 address (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
