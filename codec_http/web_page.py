"""Handlers of the page at / and of the files that the page loads from the folder `page`.

`make web` adds a decoder that runs in browsers to the folder `page`. If the decoder is missing, the server decodes
latents for the page.
"""

import re
from importlib import resources
from pathlib import Path

from aiohttp import hdrs, web

from codec_http.negotiation import accepted_names

FOLDER = Path(str(resources.files("codec_http"))) / "page"
_NO_DECODERS = 'data-decoders=""'
"""Text in index.html that the server replaces with an attribute that lists the available decoders."""
HTML = "text/html"
_DECODERS = ("wasm", "webgpu")
"""Names of decoders that run in browsers. `make web` builds a script decoder-<name>.js for each decoder."""
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".wasm": "application/wasm"}
"""Dictionary of media types by file suffix, for all served files."""
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{,63}")
_HEADERS = {
    # Workers have the policy of their own script. wasm-unsafe-eval permits WebAssembly, and no code from strings.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    hdrs.CACHE_CONTROL: "no-cache",  # revalidated: a new version of the server has other files at the same URLs
}


async def page(request: web.Request) -> web.StreamResponse:
    """Handle GET /. The body of the response is the HTML page.

    The status is 404 unless the Accept header contains text/html, as in requests of browsers.
    """
    accept = ", ".join(request.headers.getall(hdrs.ACCEPT, []))
    if HTML not in accepted_names(accept):
        raise web.HTTPNotFound
    decoders = " ".join(name for name in _DECODERS if (FOLDER / f"decoder-{name}.js").is_file())
    text = (FOLDER / "index.html").read_text().replace(_NO_DECODERS, f'data-decoders="{decoders}"')
    return web.Response(text=text, content_type=HTML, headers=_HEADERS | {hdrs.VARY: hdrs.ACCEPT})


async def page_file(request: web.Request) -> web.StreamResponse:
    """Handle GET /page/{file}. The body is a script, a style sheet, an image or a WebAssembly module of the page."""
    path = FOLDER / request.match_info["file"]
    media_type = MEDIA_TYPES.get(path.suffix)
    if media_type is None or not _FILE_NAME.fullmatch(path.name) or path.parent != FOLDER or not path.is_file():
        raise web.HTTPNotFound
    return web.FileResponse(path, headers=_HEADERS | {hdrs.CONTENT_TYPE: media_type})
