"""Absolute URLs of this server's own files."""

from aiohttp import web

from codec_http.state import PUBLIC_URL
from core.address import host_of


def absolute_url(request: web.Request, path: str) -> str:
    """Return the absolute URL of `path`.

    The URL begins with the configured public URL, or with the origin of `request` if no public URL is configured. The
    origin of `request` consists of the scheme of the connection and the value of the Host header. X-Forwarded-* headers
    are ignored, because any client can set them. If the Host header is not valid, `path` is returned unchanged.
    """
    public_url = request.app[PUBLIC_URL]
    if public_url:
        return public_url + path
    return f"{request.scheme}://{request.host}{path}" if host_of(request.host) else path
