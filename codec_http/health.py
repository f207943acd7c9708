"""Handlers of the health checks, which report the state of the server's lifecycle."""

from http import HTTPStatus

from aiohttp import web

from codec_http.response_models import HealthResponse
from codec_http.state import SERVICE
from core.lifecycle import State


async def health(request: web.Request) -> web.Response:
    """Handle GET /health and /codec/health.

    The status is 200 if the server accepts generation requests, otherwise 503.
    """
    service = request.app[SERVICE]
    ok = service.lifecycle.state is State.SERVING
    default = service.models.default
    body = HealthResponse(
        ok=ok,
        model=None if default is None else default.model.name,
        latent_space=None if default is None else default.model.latent_space,
        state=service.lifecycle.state,
    )
    return web.json_response(body.model_dump(), status=_status(healthy=ok))


async def livez(request: web.Request) -> web.Response:
    """Handle GET /livez. The status is 503 if the process should be restarted, otherwise 200."""
    return _state_response(request, healthy=request.app[SERVICE].lifecycle.is_alive)


async def readyz(request: web.Request) -> web.Response:
    """Handle GET /readyz. The status is 200 if the server accepts generation requests, otherwise 503."""
    return _state_response(request, healthy=request.app[SERVICE].lifecycle.state is State.SERVING)


def _state_response(request: web.Request, *, healthy: bool) -> web.Response:
    return web.Response(text=f"{request.app[SERVICE].lifecycle.state}\n", status=_status(healthy=healthy))


def _status(*, healthy: bool) -> int:
    return HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
