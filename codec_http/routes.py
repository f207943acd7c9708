"""Table of all routes, from which the application and the OpenAPI document are built."""

from collections.abc import Mapping

from codec_http import documentation, edits, generations, health, info, metrics
from codec_http.edit_models import EditBody
from codec_http.latent_routes import LATENT_ROUTES
from codec_http.map_routes import MAP_ROUTES
from codec_http.page_routes import PAGE_ROUTES
from codec_http.request_models import ImageLatentsBody, RenderedImagesBody, RenderedVideosBody, VideoLatentsBody
from codec_http.response_headers import DOCUMENTED_HEADERS
from codec_http.response_models import (
    HealthResponse,
    InfoResponse,
    ModelListResponse,
    ModelResponse,
    RenderedResponse,
)
from codec_http.route import DOCS_PATH, JOB_ERRORS, JSON, OPENAPI_PATH, TEXT, Content, Route
from codec_http.video_job_routes import VIDEO_JOB_ROUTES
from codec_wire import errors
from codec_wire.http import (
    CODEC_HEALTH_PATH,
    EDITS_PATH,
    GENERATION_PATHS,
    HEALTH_PATH,
    INFO_PATH,
    LIVENESS_PATH,
    MEDIA_TYPES,
    METRICS_PATH,
    MODELS_PATH,
    READINESS_PATH,
    SCHEMA_PATH,
)
from codec_wire.latents import Modality
from codec_wire.server_sent_events import EVENT_STREAM

GENERATION, MODELS, SERVER = "Generation", "Models", "Server"
"""OpenAPI tags of the endpoints. Each tag is a section of the documentation page."""

_GENERATION_CONTENT: Content = {**dict.fromkeys((*MEDIA_TYPES, EVENT_STREAM)), JSON: RenderedResponse}
_GENERATION_ERRORS = (*JOB_ERRORS, errors.UnsupportedMediaType)
_GENERATION_DESCRIPTION = (
    "If the body contains `stream_format`, `modality`, `latent_space` or `pipeline`, or the Accept header names "
    "a Codec media type, the response is a latent stream: one header message, then {frames}. Each message is "
    "sent as soon as it exists. With `Accept: text/event-stream`, the messages are sent as Server-Sent Events, "
    "together with progress and previews. Otherwise the request is OpenAI-style, and the JSON response contains "
    "{files} that the server has rendered.{streaming} Errors after the first byte of a latent stream are "
    'reported as a final frame with finish_reason "error". Closing the connection cancels the generation.'
)
_IMAGE_STREAMING = (
    " If `stream` is true, the response consists of Server-Sent Events with the names and keys of OpenAI's API. "
    "These are `image_generation.partial_image` while an image is sampled, `image_generation.completed` when the "
    "image is finished, and `error` if a generation fails after the first byte."
)
_HEALTH_RESPONSES: Mapping[int, Content] = {
    200: {JSON: HealthResponse},
    503: {JSON: HealthResponse},
}
_PROBE_RESPONSES: Mapping[int, Content] = {200: {TEXT: None}, 503: {TEXT: None}}

ROUTES = (
    Route(
        "POST",
        GENERATION_PATHS[Modality.IMAGE],
        generations.images,
        GENERATION,
        "Generate an image",
        _GENERATION_DESCRIPTION.format(frames="one frame", files="the images", streaming=_IMAGE_STREAMING),
        {200: _GENERATION_CONTENT},
        (ImageLatentsBody, RenderedImagesBody),
        DOCUMENTED_HEADERS,
        _GENERATION_ERRORS,
    ),
    Route(
        "POST",
        GENERATION_PATHS[Modality.VIDEO],
        generations.videos,
        GENERATION,
        "Generate a video",
        _GENERATION_DESCRIPTION.format(frames="one or more frames", files="the videos", streaming=""),
        {200: _GENERATION_CONTENT},
        (VideoLatentsBody, RenderedVideosBody),
        DOCUMENTED_HEADERS,
        _GENERATION_ERRORS,
    ),
    Route(
        "POST",
        EDITS_PATH,
        edits.edits,
        GENERATION,
        "Edit an image",
        "OpenAI-style request that starts from an image. With `mask`, whose transparent pixels are repainted, the "
        "model must support inpainting; without it, the whole image is edited. The other fields are those of "
        f"{GENERATION_PATHS[Modality.IMAGE]}. In a form, text that is valid JSON is a number, boolean or null, and "
        "`image` and `mask` are files. With `stream` the response consists of Server-Sent Events: "
        "`image_edit.partial_image`, `image_edit.completed`, and `error`.",
        {200: {JSON: RenderedResponse, EVENT_STREAM: None}},
        (EditBody,),
        DOCUMENTED_HEADERS,
        _GENERATION_ERRORS,
        accepts_form=True,
    ),
    *VIDEO_JOB_ROUTES,
    *LATENT_ROUTES,
    Route(
        "GET",
        MODELS_PATH,
        info.models,
        MODELS,
        "List models",
        "Lists the served models in the format of OpenAI's API.",
        {200: {JSON: ModelListResponse}},
        errors=(errors.NotReady,),
    ),
    Route(
        "GET",
        f"{MODELS_PATH}/{{name:.+}}",
        info.one_model,
        MODELS,
        "Get a model",
        "Returns one model by its name or an alias. The name may contain slashes.",
        {200: {JSON: ModelResponse}},
        errors=(errors.NotFound, errors.NotReady),
    ),
    *MAP_ROUTES,
    Route(
        "GET",
        INFO_PATH,
        info.info,
        SERVER,
        "Get server information",
        "Returns capabilities, limits, state and library versions. The endpoint is also available while the "
        "server is loading.",
        {200: {JSON: InfoResponse}},
    ),
    Route(
        "GET",
        SCHEMA_PATH,
        info.schema,
        SERVER,
        "Get the stream schema",
        "Returns the .proto source of the two messages of a latent stream.",
        {200: {TEXT: None}},
    ),
    Route(
        "GET",
        HEALTH_PATH,
        health.health,
        SERVER,
        "Check health",
        "The status is 200 if the server accepts generation requests, otherwise 503. Before a server with a "
        "local model accepts requests, it completes one short generation.",
        _HEALTH_RESPONSES,
    ),
    Route(
        "GET",
        CODEC_HEALTH_PATH,
        health.health,
        SERVER,
        "Check health (alias)",
        f"The same as {HEALTH_PATH}.",
        _HEALTH_RESPONSES,
    ),
    Route(
        "GET",
        LIVENESS_PATH,
        health.livez,
        SERVER,
        "Check liveness",
        "The status is 503 if the process has failed and should be restarted, otherwise 200. The body is the "
        "server's state.",
        _PROBE_RESPONSES,
    ),
    Route(
        "GET",
        READINESS_PATH,
        health.readyz,
        SERVER,
        "Check readiness",
        "The status is 200 if the server accepts generation requests, otherwise 503. The body is the server's state.",
        _PROBE_RESPONSES,
    ),
    Route(
        "GET",
        METRICS_PATH,
        metrics.metrics,
        SERVER,
        "Get metrics",
        "Returns the metrics of the server in the text format of Prometheus. The endpoint is also available "
        "while the server is loading.",
        {200: {TEXT: None}},
    ),
    Route(
        "GET",
        OPENAPI_PATH,
        documentation.openapi,
        SERVER,
        "Get this document",
        "Returns this API description as OpenAPI 3.1.",
        {200: {JSON: None}},
    ),
    Route(
        "GET",
        DOCS_PATH,
        documentation.page,
        SERVER,
        "Read this document",
        "Returns this API description as an HTML page without scripts or external resources.",
        {200: {"text/html": None}},
    ),
    *PAGE_ROUTES,
)
