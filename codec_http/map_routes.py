"""Routes of latent-space maps and of the files that belong to a latent space."""

from aiohttp import hdrs

from codec_http import discovery
from codec_http.response_models import IndexResponse
from codec_http.route import JSON, Content, Handler, Route
from codec_wire import errors
from codec_wire.http import (
    INDEX_PATH,
    INFO_PATH,
    LATENT_MAP_HEADER,
    decoder_path,
    dictionary_path,
    latent_rgb_path,
    map_path,
    scales_path,
)
from codec_wire.maps.document import LatentMap
from codec_wire.maps.latent_rgb import LatentRgb

LATENT_MAP = "Latent-space map"
"""OpenAPI tag of the endpoints, used as the title of a section of the documentation page."""

_BINARY: Content = {"application/octet-stream": None}


def _file_route(
    path: str,
    handler: Handler,
    summary: str,
    description: str,
    content: Content = _BINARY,
    *,
    etag: str = "The hash of the file. Send it in If-None-Match to revalidate a cached copy.",
) -> Route:
    """Return the route of a file that clients may cache. `etag` describes the response header ETag."""
    headers = {
        "ETag": etag,
        hdrs.CACHE_CONTROL: "How long the file may be cached. Files with the same hash never change.",
    }
    return Route(
        "GET",
        path,
        handler,
        LATENT_MAP,
        summary,
        description,
        {200: content},
        headers=headers,
        errors=(errors.NotFound, errors.NotReady),
    )


MAP_ROUTES = (
    Route(
        "GET",
        INDEX_PATH,
        discovery.index,
        LATENT_MAP,
        "List latent-space maps",
        "Lists the id, URL and hash of every latent-space map.",
        {200: {JSON: IndexResponse}},
        errors=(errors.NotReady,),
    ),
    _file_route(
        map_path("{id:.+}"),
        discovery.latent_map,
        "Get a latent-space map",
        "Returns the map of the latent space `id`, which may contain slashes. "
        f"The sha256 of the body is the hash in the {LATENT_MAP_HEADER} header of streams.",
        {JSON: LatentMap},
    ),
    _file_route(
        latent_rgb_path("{id:.+}"),
        discovery.latent_rgb,
        "Get a latent-to-RGB matrix",
        "Returns the matrix that converts a latent cell to the mean colour of its pixels, fitted by least "
        "squares. Clients can compute previews with the matrix and without a VAE. The matrix is not part of the "
        "latent-space map and does not affect the map's hash. The status is 404 if no matrix was measured.",
        {JSON: LatentRgb},
    ),
    _file_route(
        dictionary_path("{hex}"),
        discovery.dictionary,
        "Get a zstd dictionary",
        "Returns a zstd dictionary by its sha256, which is in the latent-space map.",
    ),
    _file_route(
        scales_path("{hex}"),
        discovery.scales,
        "Get static scales",
        "Returns the scales of the int8 or int4 pipeline by their sha256, which is in the latent-space map. The "
        "body has one little-endian fp16 number for each channel.",
    ),
    _file_route(
        decoder_path("{hex}"),
        discovery.decoder,
        "Get a decoder",
        "Returns the VAE decoder of a latent space as an ONNX model, by the sha256 in `decoders` of "
        f"{INFO_PATH}. Input `latents`: float32 [N, C, h, w], scaled as in the stream. Output `pixels`: float32 "
        "[N, 3, H, W], RGB in [0, 1]. Ranges of bytes can be requested.",
        etag="Identifies the file. Send it in If-None-Match to revalidate a cached copy.",
    ),
)
