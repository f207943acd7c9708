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
from core.service import LatentService, Served


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
            "jobs": service.admission.jobs,
        }
        | _served(service)
    )


def _served(service: LatentService) -> dict[str, object]:
    """Return what can be said once a model is there."""
    served = service.served
    if served is None:
        return {}
    model = served.model
    return {
        "modality_supported": list(service.modalities()),
        "image_pipelines": _pipelines(service, Modality.IMAGE),
        "video_pipelines": _pipelines(service, Modality.VIDEO),
        "latent_space_id": model.latent_space,
        "compression_supported": [
            *(["zstd"] if any(one.bundle.latent_map.zstd_dictionaries for one in service.models) else []),
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
        "loras": [{"name": lora.name, "scale": lora.scale} for lora in model.loras],
        "device": served.device,
        "models": [_described(one) for one in service.models],
    }


def _pipelines(service: LatentService, modality: Modality) -> list[str]:
    """Return the pipelines of the model that makes `modality` where a request names none; none where none does."""
    for served in service.models:
        if modality in served.model.modalities:
            entries = served.bundle.latent_map.pipelines
            return [entry.name for entry in entries if modality is Modality.VIDEO or not entry.row.video_only]
    return []


def _described(served: Served) -> dict[str, object]:
    """Return what a client must know to ask this model."""
    model = served.model
    return {
        "model": model.name,
        "model_aliases": list(model.aliases),
        "modality_supported": list(model.modalities),
        "latent_space_id": model.latent_space,
        "latent_map_url": map_path(model.latent_space),
        "latent_map_sha256": served.bundle.hash,
        "pipelines": [entry.name for entry in served.bundle.latent_map.pipelines],
        "default_size": "{}x{}".format(*model.default_size),
        "size_multiple": model.size_multiple,
        "max_side": model.limits.max_side,
        "max_frames": model.limits.max_frames,
        "temporal_factor": model.temporal_factor,
        "frame_multiple": model.frame_multiple,
        "forms": [str(form) for made in model.modalities for form in model.forms_of(made)],
        "loras": [{"name": lora.name, "scale": lora.scale} for lora in model.loras],
    }


async def schema(_request: web.Request) -> web.Response:
    """Answer GET /codec/schema: the .proto text of the stream's two messages."""
    return web.Response(text=stream_schema(), content_type="text/plain")


async def models(request: web.Request) -> web.Response:
    """Answer GET /v1/models, as OpenAI's clients read it."""
    service = request.app[SERVICE]
    service.require_served()
    named = {served.model.name: served.model for served in service.models}
    return web.json_response({"object": "list", "data": [_model(model, name) for name, model in named.items()]})


async def one_model(request: web.Request) -> web.Response:
    """Answer GET /v1/models/<name>, for each name that a model answers to."""
    service, name = request.app[SERVICE], request.match_info["name"]
    service.require_served()
    for served in service.models:
        if served.model.answers_to(name):
            return web.json_response(_model(served.model, name))
    names = ", ".join(served.model.name for served in service.models)
    raise NotFound("model", f"this server runs {names}, got {shown(name)}")


def _model(model: ModelInfo, name: str) -> dict[str, object]:
    # `created` is part of OpenAI's shape and unknown here.
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "codec-diffusers",
        "latent_space": model.latent_space,
    }
