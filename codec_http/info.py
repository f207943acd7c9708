"""What the server is: /codec/info, /codec/schema and /v1/models."""

from aiohttp import web

from codec_http.discovery import map_path
from codec_http.encoding import codings_of
from codec_http.state import SERVICE
from codec_wire import WireFormat
from codec_wire.schema import stream_schema
from core import CODEC_VERSION, SERVER_VERSION
from core.errors import NotFound, shown
from core.latents import Modality
from core.model import ModelInfo
from core.pins import installed_versions, pin_differences
from core.service import LatentService


async def info(request: web.Request) -> web.Response:
    """Answer GET /codec/info: the keys that the sibling servers have, then what is ours. Also while loading."""
    service = request.app[SERVICE]
    return web.json_response(
        {
            "modality_supported": [],
            "stream_format_supported": list(WireFormat),
            "compression_supported": codings_of(None),
            "image_pipelines": [],
            "video_pipelines": [],
            "latent_space_id": None,
            "latent_map_url": None,
            "latent_map_sha256": None,
            "model": None,
            "codec_version": CODEC_VERSION,
            "server": "codec-diffusers",
            "server_version": SERVER_VERSION,
            "state": service.lifecycle.state,
            "device": None,
            "versions": installed_versions(),
            "pin_differences": pin_differences(),
            "image_digest": service.image_digest,
            "jobs": service.admission.jobs,
        }
        | _served(service)
    )


def _served(service: LatentService) -> dict[str, object]:
    """Return what can be said once a model is there."""
    served = service.served
    if served is None:
        return {}
    pipelines = served.bundle.latent_map.pipelines
    model = served.model

    def usable(modality: Modality) -> list[str]:
        if modality not in model.modalities:
            return []
        return [entry.name for entry in pipelines if modality is Modality.VIDEO or not entry.row.video_only]

    return {
        "modality_supported": list(model.modalities),
        "image_pipelines": usable(Modality.IMAGE),
        "video_pipelines": usable(Modality.VIDEO),
        "latent_space_id": model.latent_space,
        "compression_supported": [
            *(["zstd"] if served.bundle.latent_map.zstd_dictionaries else []),
            "br",
            "gzip",
            "identity",
        ],
        "latent_map_url": map_path(model.latent_space),
        "latent_map_sha256": served.bundle.hash,
        "model": model.name,
        "model_aliases": list(model.aliases),
        "default_size": "{}x{}".format(*model.default_size),
        "size_multiple": model.size_multiple,
        "max_side": model.limits.max_side,
        "max_steps": model.limits.max_steps,
        "max_frames": model.limits.max_frames,
        "device": served.device,
    }


async def schema(_request: web.Request) -> web.Response:
    """Answer GET /codec/schema: the .proto text of the stream's two messages."""
    return web.Response(text=stream_schema(), content_type="text/plain")


async def models(request: web.Request) -> web.Response:
    """Answer GET /v1/models, as OpenAI's clients read it."""
    model = request.app[SERVICE].require_served().model
    return web.json_response({"object": "list", "data": [_model(model, model.name)]})


async def one_model(request: web.Request) -> web.Response:
    """Answer GET /v1/models/<name>, for each name the model answers to."""
    model, name = request.app[SERVICE].require_served().model, request.match_info["name"]
    if not model.answers_to(name):
        raise NotFound("model", f"this server runs {model.name}, got {shown(name)}")
    return web.json_response(_model(model, name))


def _model(model: ModelInfo, name: str) -> dict[str, object]:
    # `created` is part of OpenAI's shape and unknown here.
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "codec-diffusers",
        "latent_space": model.latent_space,
    }
