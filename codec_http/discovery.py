"""Handlers that serve latent-space maps, static scales, zstd dictionaries and decoders below /.well-known/codec."""

from collections.abc import Callable

from aiohttp import web

from codec_http.public_url import absolute_url
from codec_http.response_models import IndexEntry, IndexResponse
from codec_http.state import SERVICE
from codec_wire.errors import NotFound, truncated_repr
from codec_wire.http import INDEX_PATH, latent_rgb_path, map_path
from codec_wire.maps.bundle import sha256
from codec_wire.maps.document import LatentMap
from codec_wire.version import CODEC_VERSION

CACHE_HEADERS = {"Cache-Control": "public, max-age=300, stale-while-revalidate=86400"}
IMMUTABLE_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable"}
"""Response headers for URLs that contain the hash of a large file.

After a response with IMMUTABLE_HEADERS, browsers do not request the file again, even if a page is reloaded.
"""


async def index(request: web.Request) -> web.Response:
    """Handle GET index.json. The body lists the published latent-space maps."""
    models = request.app[SERVICE].models
    with_matrix = {instance.model.latent_space for instance in models if instance.latent_rgb is not None}
    entries = [
        IndexEntry(
            id=latent_space,
            url=absolute_url(request, map_path(latent_space)),
            hash=bundle.hash,
            rgb_url=absolute_url(request, latent_rgb_path(latent_space)) if latent_space in with_matrix else None,
        )
        for latent_space, bundle in models.maps().items()
    ]
    body = IndexResponse(codec_version=CODEC_VERSION, maps=[], latents=entries)
    return web.json_response(body.model_dump(), headers=CACHE_HEADERS)


async def latent_map(request: web.Request) -> web.Response:
    """Handle GET latents/<id>.json.

    The body has the exact bytes of the latent-space map, so that clients can verify the hash of the map.
    """
    bundle = request.app[SERVICE].models.require_map(request.match_info["id"])
    return _file(request, bundle.document, bundle.hash, "application/json")


async def latent_rgb(request: web.Request) -> web.Response:
    """Handle GET rgb/<id>.json. The body is the latent-to-RGB matrix of the latent space <id>."""
    document = request.app[SERVICE].models.require_latent_rgb(request.match_info["id"]).serialize()
    return _file(request, document, sha256(document), "application/json")


async def dictionary(request: web.Request) -> web.Response:
    """Handle GET dicts/<hex>.zstd. The body is the zstd dictionary whose hash is <hex>."""
    return _asset(request, lambda latent_map: {entry.hash for entry in latent_map.zstd_dictionaries})


async def scales(request: web.Request) -> web.Response:
    """Handle GET scales/<hex>.bin. The body is the file of static scales whose hash is <hex>."""
    return _asset(
        request,
        lambda latent_map: {
            entry.static_scales.hash for entry in latent_map.pipelines if entry.static_scales is not None
        },
    )


async def decoder(request: web.Request) -> web.StreamResponse:
    """Handle GET decoders/<hex>.onnx. The body of the response is the exported decoder with the hash <hex>.

    The file may be hundreds of megabytes large, so the server does not read it into memory. The hash in the URL is only
    compared with the hashes of served decoders and is never used as a file path.
    """
    found = request.app[SERVICE].models.require_decoder(f"sha256:{request.match_info['hex']}")
    return web.FileResponse(found.path, headers=IMMUTABLE_HEADERS | {"Content-Type": "application/octet-stream"})


def _asset(request: web.Request, hashes_in: Callable[[LatentMap], set[str]]) -> web.Response:
    """Return the response whose body is the dictionary or scales file with the hash in the URL.

    `hashes_in` returns the hashes of all files of the requested kind that a map refers to. The hash in the URL is only
    used as a dictionary key, never as a file path. Raises NotFound if no served map contains the hash.
    """
    digest = f"sha256:{request.match_info['hex']}"
    for bundle in request.app[SERVICE].models.maps().values():
        if digest in hashes_in(bundle.latent_map):
            return _file(request, bundle.assets[digest], digest, "application/octet-stream")
    raise NotFound(
        "hash",
        f"{truncated_repr(digest)} not found; see the hashes in the latent-space maps, whose URLs are in {INDEX_PATH}",
    )


def _file(request: web.Request, data: bytes, digest: str, content_type: str) -> web.Response:
    """Return a response with `data`, or 304 Not Modified if the client already has `data`.

    `digest` is the hash of `data`. A header of the response states that the body never changes.
    """
    headers = CACHE_HEADERS | {"ETag": f'"{digest}"'}
    if digest in {tag.value for tag in request.if_none_match or ()}:
        return web.Response(status=304, headers=headers)
    return web.Response(body=data, content_type=content_type, headers=headers)
