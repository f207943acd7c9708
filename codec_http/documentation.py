"""Handlers of the API documentation: /openapi.json and /docs."""

from aiohttp import web

from codec_http.docs_page import DOCS_POLICY, docs_page
from codec_http.state import DOCUMENT


async def openapi(request: web.Request) -> web.Response:
    """Handle GET /openapi.json. The body is the OpenAPI document."""
    return web.json_response(request.app[DOCUMENT])


async def page(request: web.Request) -> web.Response:
    """Handle GET /docs. The body is the OpenAPI document as a self-contained HTML page."""
    return web.Response(
        text=docs_page(request.app[DOCUMENT]),
        content_type="text/html",
        headers={"Content-Security-Policy": DOCS_POLICY},
    )
