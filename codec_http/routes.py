"""Every path that is answered: what the application serves and what /openapi.json says of it are this one table."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from pydantic import BaseModel

from codec_http import discovery, documentation, generations, health, info
from codec_http.request_models import ImageLatents, RenderedImages, RenderedVideos, VideoLatents
from codec_http.response_models import HealthAnswer, IndexAnswer, InfoAnswer, ModelAnswer, ModelsAnswer, RenderedAnswer
from codec_wire import errors
from codec_wire.errors import CodecError
from codec_wire.http import (
    CODEC_HEALTH_PATH,
    GENERATION_PATHS,
    HEALTH_PATH,
    INDEX_PATH,
    INFO_PATH,
    LIVENESS_PATH,
    MEDIA_TYPES,
    MODELS_PATH,
    READINESS_PATH,
    RESPONSE_HEADERS,
    SCHEMA_PATH,
    dictionary_path,
    map_path,
    scales_path,
)
from codec_wire.latents import Modality
from codec_wire.maps.document import LatentMap

Content = Mapping[str, type[BaseModel] | None]
"""Type of the body by media type; None where it is no JSON."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path, as aiohttp matches it.

    `title` is a few words, `says` a few sentences. `bodies` are the kinds of JSON body it takes, `answers` what it
    says by status, `headers` names headers of the good answer and what they hold, `errors` lists what it may raise.
    """

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    tag: str
    title: str
    says: str
    answers: Mapping[int, Content]
    bodies: tuple[type[BaseModel], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[type[CodecError], ...] = ()


GENERATE, MODELS, DISCOVER, OPERATE = "Generate", "Models", "Latent-space map", "Server"

_GENERATED: Content = {**dict.fromkeys(MEDIA_TYPES), "application/json": RenderedAnswer}
_GENERATION_HEADERS = {
    **RESPONSE_HEADERS,
    "Content-Encoding": "br, gzip or zstd; absent for identity.",
}
_GENERATION_ERRORS = (
    errors.InvalidRequest,
    errors.NotFound,
    errors.NotAcceptable,
    errors.MapMismatch,
    errors.TooLarge,
    errors.UnsupportedModality,
    errors.Overloaded,
    errors.CodecError,
    errors.NotReady,
    errors.OutOfMemory,
    errors.DeadlineExceeded,
)
_LATENTS_OR_PIXELS = (
    "With `stream_format` or `modality` the answer is a stream of latents: one header, then {frames}, each sent as "
    "soon as it is there. With neither it is the OpenAI-style request, and the answer holds {files}, rendered here. "
    'What fails after a stream has begun is a last frame with finish_reason "error". Leaving stops the generation.'
)
_ASSET: Content = {"application/octet-stream": None}
_ASSET_HEADERS = {"ETag": "The file's hash: it never changes.", "Cache-Control": "public."}
_HEALTH: Mapping[int, Content] = {200: {"application/json": HealthAnswer}, 503: {"application/json": HealthAnswer}}
_PROBE: Mapping[int, Content] = {200: {"text/plain": None}, 503: {"text/plain": None}}

ROUTES = (
    Route(
        "POST",
        GENERATION_PATHS[Modality.IMAGE],
        generations.images,
        GENERATE,
        "Make a picture",
        _LATENTS_OR_PIXELS.format(frames="one frame", files="pictures"),
        {200: _GENERATED},
        (ImageLatents, RenderedImages),
        _GENERATION_HEADERS,
        _GENERATION_ERRORS,
    ),
    Route(
        "POST",
        GENERATION_PATHS[Modality.VIDEO],
        generations.videos,
        GENERATE,
        "Make a video",
        _LATENTS_OR_PIXELS.format(frames="the frames", files="videos"),
        {200: _GENERATED},
        (VideoLatents, RenderedVideos),
        _GENERATION_HEADERS,
        _GENERATION_ERRORS,
    ),
    Route(
        "GET",
        MODELS_PATH,
        info.models,
        MODELS,
        "List the models",
        "What is served, as OpenAI's clients read it.",
        {200: {"application/json": ModelsAnswer}},
        errors=(errors.NotReady,),
    ),
    Route(
        "GET",
        f"{MODELS_PATH}/{{name:.+}}",
        info.one_model,
        MODELS,
        "Look a model up",
        "By its name, which may hold slashes, or by any other name it answers to.",
        {200: {"application/json": ModelAnswer}},
        errors=(errors.NotFound, errors.NotReady),
    ),
    Route(
        "GET",
        INDEX_PATH,
        discovery.index,
        DISCOVER,
        "What is published here",
        "The latent-space map's id, address and hash.",
        {200: {"application/json": IndexAnswer}},
        errors=(errors.NotReady,),
    ),
    Route(
        "GET",
        map_path("{id:.+}"),
        discovery.latent_map,
        DISCOVER,
        "A latent-space map",
        "Its exact bytes, which hash to Codec-Latent-Map. The id may hold slashes.",
        {200: {"application/json": LatentMap}},
        headers=_ASSET_HEADERS,
        errors=(errors.NotFound, errors.NotReady),
    ),
    Route(
        "GET",
        dictionary_path("{hex}"),
        discovery.dictionary,
        DISCOVER,
        "A zstd dictionary",
        "By its hash, as the map names it.",
        {200: _ASSET},
        headers=_ASSET_HEADERS,
        errors=(errors.NotFound, errors.NotReady),
    ),
    Route(
        "GET",
        scales_path("{hex}"),
        discovery.scales,
        DISCOVER,
        "Static scales",
        "One little-endian fp16 for each channel, by hash, as the map names them.",
        {200: _ASSET},
        headers=_ASSET_HEADERS,
        errors=(errors.NotFound, errors.NotReady),
    ),
    Route(
        "GET",
        INFO_PATH,
        info.info,
        OPERATE,
        "What the server is",
        "What it makes and takes, and the versions it was built from. Answers while the model loads too.",
        {200: {"application/json": InfoAnswer}},
    ),
    Route(
        "GET",
        SCHEMA_PATH,
        info.schema,
        OPERATE,
        "The stream's schema",
        "The .proto text of the header and the frame.",
        {200: {"text/plain": None}},
    ),
    Route(
        "GET",
        HEALTH_PATH,
        health.health,
        OPERATE,
        "Whether requests are taken",
        "200 after a real short generation.",
        _HEALTH,
    ),
    Route("GET", CODEC_HEALTH_PATH, health.health, OPERATE, "The same", "As the sibling servers have it.", _HEALTH),
    Route("GET", LIVENESS_PATH, health.livez, OPERATE, "Liveness", "503: restart the process.", _PROBE),
    Route("GET", READINESS_PATH, health.readyz, OPERATE, "Readiness", "503: send no requests.", _PROBE),
    Route(
        "GET",
        "/openapi.json",
        documentation.openapi,
        OPERATE,
        "This document",
        "OpenAPI 3.1, made from the types that check requests and make answers.",
        {200: {"application/json": None}},
    ),
    Route(
        "GET",
        "/docs",
        documentation.page,
        OPERATE,
        "This document, to read",
        "One page without scripts or anything from elsewhere.",
        {200: {"text/html": None}},
    ),
)
