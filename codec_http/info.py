"""Handlers of /codec/info, /codec/schema and /v1/models, which describe the server and its models."""

from dataclasses import asdict
from typing import get_args

from aiohttp import web

from codec_http.encoding import available_codings
from codec_http.public_url import absolute_url
from codec_http.request_body import RENDERED_BODIES
from codec_http.response_models import (
    DecoderDescription,
    DistanceDescription,
    ExtraFieldDescription,
    InfoResponse,
    LoraDescription,
    ModelDescription,
    ModelListResponse,
    ModelResponse,
    PixelCheckDescription,
)
from codec_http.state import SERVICE
from codec_wire import WireFormat
from codec_wire.http import decoder_path, latent_rgb_path, map_path
from codec_wire.latents import Modality
from codec_wire.schema import stream_schema
from codec_wire.version import CODEC_VERSION, SERVER_VERSION
from core.decoder_file import ONNX, DecoderFile
from core.extra_field import ExtraField
from core.model import GenerationMode
from core.model_selection import models_named
from core.served import ModelInstance, ServedModels

_DEFAULT_MODEL_FIELDS = InfoResponse.model_fields.keys() & ModelDescription.model_fields.keys()
"""Fields of /codec/info that describe the default model."""


async def info(request: web.Request) -> web.Response:
    """Handle GET /codec/info. The endpoint is also available while the server is loading models."""
    service = request.app[SERVICE]
    body = InfoResponse.model_validate(
        {
            "modality_supported": [],
            "stream_format_supported": list(WireFormat),
            "compression_supported": available_codings(()),
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
        | _models_info(request, service.models)
    )
    return web.json_response(body.model_dump(exclude_unset=True))


def _models_info(request: web.Request, models: ServedModels) -> dict[str, object]:
    """Return the fields of InfoResponse that describe models, or an empty dictionary while the models are loading."""
    if models.default is None:
        return {}
    descriptions = [describe_model(request, instance) for instance in models]
    return descriptions[0].model_dump(include=set(_DEFAULT_MODEL_FIELDS)) | {
        "modality_supported": list(models.modalities()),
        "compression_supported": available_codings(models.maps().values()),
        "rendered_formats": list(dict.fromkeys(name for one in models for name in _rendered_formats(one))),
        "image_pipelines": _pipelines(models, Modality.IMAGE),
        "video_pipelines": _pipelines(models, Modality.VIDEO),
        "max_steps": models.default.model.limits.max_steps,
        "device": models.default.device,
        "models": descriptions,
    }


def describe_model(request: web.Request, instance: ModelInstance) -> ModelDescription:
    """Return the description of a served model, with URLs for the client that sent `request`."""
    model, distance = instance.model, instance.acceleration.distance
    return ModelDescription(
        model=model.name,
        model_aliases=list(model.aliases),
        role=instance.role,
        modality_supported=list(instance.generated_modalities),
        latent_space_id=model.latent_space,
        latent_map_url=absolute_url(request, map_path(model.latent_space)),
        latent_map_sha256=instance.bundle.hash,
        latent_rgb_url=None
        if instance.latent_rgb is None
        else absolute_url(request, latent_rgb_path(model.latent_space)),
        decoders=_decoders(request, instance.decoder),
        pipelines=[pipeline.name for pipeline in instance.bundle.latent_map.pipelines],
        default_size="{}x{}".format(*model.default_size),
        size_multiple=model.size_multiple,
        max_side=model.limits.max_side,
        max_frames=model.limits.max_frames,
        temporal_factor=model.temporal_factor,
        frame_multiple=model.frame_multiple,
        forms=_forms(instance),
        schedulers=list(model.schedulers),
        prompt_syntaxes=list(model.prompt_syntaxes),
        extra=_extra(instance),
        decodes=instance.vae is not None,
        loras=[LoraDescription(name=lora.name, scale=lora.scale) for lora in model.loras],
        available_loras=_available_loras(instance),
        pixel_checks=[PixelCheckDescription(**asdict(check)) for check in instance.pixel_checks],
        mode=instance.acceleration.mode,
        switches=list(instance.acceleration.switches),
        distance=None if distance is None else DistanceDescription(**asdict(distance)),
    )


def _decoders(request: web.Request, decoder: DecoderFile | None) -> list[DecoderDescription]:
    if decoder is None:
        return []
    url = absolute_url(request, decoder_path(decoder.hash))
    return [DecoderDescription(family=ONNX, url=url, hash=decoder.hash, size_bytes=decoder.size_bytes)]


def _pipelines(models: ServedModels, modality: Modality) -> list[str]:
    """Return the encoding pipelines of the first model that generates `modality`.

    Return [] if no model generates `modality`.
    """
    for instance in models:
        if modality in instance.model.modalities:
            return [pipeline.name for pipeline in instance.bundle.latent_map.pipelines_for(modality)]
    return []


def _rendered_formats(instance: ModelInstance) -> list[str]:
    """Return the file formats in which the server can render the output of a model."""
    if not instance.model.renders:
        return []
    modalities = instance.generated_modalities
    fields = [RENDERED_BODIES[modality].model_fields["output_format"] for modality in modalities]
    return [name for field in fields for name in get_args(field.annotation)]


async def schema(_request: web.Request) -> web.Response:
    """Handle GET /codec/schema. The body is the .proto source of the messages of a latent stream."""
    return web.Response(text=stream_schema(), content_type="text/plain")


async def models(request: web.Request) -> web.Response:
    """Handle GET /v1/models. Models with the same name are listed once."""
    instances = request.app[SERVICE].models.require_all()
    by_name = {instance.model.name: _model_response(instance, instance.model.name) for instance in instances}
    return web.json_response(ModelListResponse(data=list(by_name.values())).model_dump())


async def one_model(request: web.Request) -> web.Response:
    """Handle GET /v1/models/<name>, where the name may be an alias."""
    name = request.match_info["name"]
    instances = request.app[SERVICE].models.require_all()
    model = models_named(name, [instance.model for instance in instances])[0]
    instance = next(instance for instance in instances if instance.model is model)
    return web.json_response(_model_response(instance, name).model_dump())


def _model_response(instance: ModelInstance, name: str) -> ModelResponse:
    model = instance.model
    return ModelResponse(
        id=name,
        latent_space=model.latent_space,
        forms=_forms(instance),
        schedulers=list(model.schedulers),
        prompt_syntaxes=list(model.prompt_syntaxes),
        available_loras=_available_loras(instance),
        extra=_extra(instance),
    )


def _available_loras(instance: ModelInstance) -> list[str] | None:
    names = instance.model.lora_names()
    return None if names is None else list(names)


def _modes(instance: ModelInstance) -> list[GenerationMode]:
    return [mode for modality in instance.generated_modalities for mode in instance.model.modes_of(modality)]


def _forms(instance: ModelInstance) -> list[str]:
    return [str(mode) for mode in _modes(instance)]


def _extra(instance: ModelInstance) -> list[ExtraFieldDescription]:
    """Return the extra parameters of a model.

    If a parameter has the same bounds in several modes, the result contains one description for all of these modes.
    """
    forms: dict[ExtraField, list[str]] = {}
    for mode in _modes(instance):
        for field in mode.extra:
            forms.setdefault(field, []).append(str(mode))
    return [_extra_description(field, accepting) for field, accepting in forms.items()]


def _extra_description(field: ExtraField, forms: list[str]) -> ExtraFieldDescription:
    number = int if field.type == "integer" else float
    return ExtraFieldDescription(
        name=field.name,
        type=field.type,
        minimum=number(field.minimum),
        maximum=number(field.maximum),
        default=number(field.default),
        same_as=field.same_as,
        forms=forms,
    )
