"""What the server is: /codec/info, /codec/schema and /v1/models."""

from typing import get_args

from aiohttp import web

from codec_http.encoding import codings_of
from codec_http.request_body import RENDERED
from codec_http.response_models import InfoAnswer, ModelAnswer, ModelsAnswer
from codec_http.state import SERVICE
from codec_wire import WireFormat
from codec_wire.errors import NotFound, truncated_repr
from codec_wire.http import map_path
from codec_wire.latents import Modality
from codec_wire.schema import stream_schema
from codec_wire.version import CODEC_VERSION, SERVER_VERSION
from core.model import ModelInfo
from core.served import ModelInstance
from core.service import LatentService


async def info(request: web.Request) -> web.Response:
    """Answer GET /codec/info: the keys that the sibling servers have, then what is ours. Also while loading."""
    service = request.app[SERVICE]
    answer = InfoAnswer.model_validate(
        {
            "modality_supported": [],
            "stream_format_supported": list(WireFormat),
            "compression_supported": codings_of(()),
            "rendered_formats": [],
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
            "versions": service.provenance.versions,
            "pin_differences": service.provenance.pin_differences,
            "image_digest": service.provenance.image_digest,
            "jobs": service.admission.jobs,
        }
        | _served(service)
    )
    return web.json_response(answer.model_dump(exclude_unset=True))


def _served(service: LatentService) -> dict[str, object]:
    """Return what can be said once a model is there."""
    served = service.models.default
    if served is None:
        return {}
    model = served.model
    return {
        "modality_supported": list(service.models.modalities()),
        "rendered_formats": list(
            dict.fromkeys(name for one in service.models for name in _rendered_formats(one.model))
        ),
        "image_pipelines": _pipelines(service, Modality.IMAGE),
        "video_pipelines": _pipelines(service, Modality.VIDEO),
        "latent_space_id": model.latent_space,
        "compression_supported": codings_of(service.models.maps().values()),
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
            return [entry.name for entry in served.bundle.latent_map.pipelines_for(modality)]
    return []


def _described(served: ModelInstance) -> dict[str, object]:
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


def _rendered_formats(model: ModelInfo) -> list[str]:
    made = [RENDERED[modality].model_fields["output_format"] for modality in model.modalities if model.renders]
    return [name for field in made for name in get_args(field.annotation)]


async def schema(_request: web.Request) -> web.Response:
    """Answer GET /codec/schema: the .proto text of the stream's two messages."""
    return web.Response(text=stream_schema(), content_type="text/plain")


async def models(request: web.Request) -> web.Response:
    """Answer GET /v1/models, as OpenAI's clients read it."""
    models = request.app[SERVICE].models.require_all()
    named = {served.model.name: _model(served.model, served.model.name) for served in models}
    return web.json_response(ModelsAnswer(data=list(named.values())).model_dump())


async def one_model(request: web.Request) -> web.Response:
    """Answer GET /v1/models/<name>, for each name that a model answers to."""
    models, name = request.app[SERVICE].models.require_all(), request.match_info["name"]
    for served in models:
        if served.model.answers_to(name):
            return web.json_response(_model(served.model, name).model_dump())
    names = ", ".join(served.model.name for served in models)
    raise NotFound("model", f"this server runs {names}, got {truncated_repr(name)}")


def _model(model: ModelInfo, name: str) -> ModelAnswer:
    return ModelAnswer(id=name, latent_space=model.latent_space)
