"""Absolute URLs of this server's own files."""

import re

from aiohttp import web

from codec_http.state import PUBLIC_URL

_HOST = re.compile(r"[A-Za-z0-9._~-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


def absolute_url(request: web.Request, path: str) -> str:
    """Return the URL of `path`: below the configured public URL, otherwise below the origin of `request`.

    The origin is the scheme of the connection and the Host header. X-Forwarded-* headers are ignored, because any
    client can set them. If the Host header is not valid, `path` is returned.
    """
    public_url = request.app[PUBLIC_URL]
    if public_url:
        return public_url + path
    return f"{request.scheme}://{request.host}{path}" if _HOST.fullmatch(request.host) else path
