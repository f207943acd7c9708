"""The health answers, all fed by the lifecycle."""

from http import HTTPStatus

from aiohttp import web

from codec_http.response_models import HealthAnswer
from codec_http.state import SERVICE
from core.lifecycle import State


async def health(request: web.Request) -> web.Response:
    """Answer GET /health and /codec/health as the sibling servers do: `ok` where requests are taken, and what runs."""
    service = request.app[SERVICE]
    ok = service.lifecycle.state is State.SERVING
    model = None if service.models.default is None else service.models.default.model
    answer = HealthAnswer(
        ok=ok,
        model=None if model is None else model.name,
        latent_space=None if model is None else model.latent_space,
        state=service.lifecycle.state,
    )
    return web.json_response(
        answer.model_dump(),
        status=HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE,
    )


async def livez(request: web.Request) -> web.Response:
    """Answer GET /livez: 200 unless the process should be restarted."""
    return _says(request, alive=request.app[SERVICE].lifecycle.state is not State.FAILED)


async def readyz(request: web.Request) -> web.Response:
    """Answer GET /readyz: 200 where requests are taken, after a real generation."""
    return _says(request, alive=request.app[SERVICE].lifecycle.state is State.SERVING)


def _says(request: web.Request, *, alive: bool) -> web.Response:
    status = HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE
    return web.Response(text=f"{request.app[SERVICE].lifecycle.state}\n", status=status)
