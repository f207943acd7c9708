"""An HTTP server with fixed responses, for tests of clients that fetch maps."""

import json

from aiohttp import web

from tests.support.serving import LATENT_SPACE, MODEL, bundle_of


async def serve_files(files: dict[str, bytes]) -> tuple[web.AppRunner, str]:
    """Serve `files` by path and 404 for every other path; return the runner, to clean up, and the server's URL."""

    async def respond(request: web.Request) -> web.Response:
        return web.Response(body=files[request.path]) if request.path in files else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", respond)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


def published_files() -> dict[str, bytes]:
    """Return the files by which a server publishes the map of MODEL, by path."""
    bundle = bundle_of(MODEL)
    entry = {"id": LATENT_SPACE, "url": "/map.json", "hash": bundle.hash}
    files = {"/.well-known/codec/index.json": json.dumps({"latents": [entry]}).encode(), "/map.json": bundle.document}
    for digest, data in bundle.assets.items():
        files[f"/.well-known/codec/scales/{digest.removeprefix('sha256:')}.bin"] = data
    return files
