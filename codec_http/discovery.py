"""/.well-known/codec: the map, its scales and its dictionaries, for clients that know no more than the address."""

from collections.abc import Callable

from aiohttp import web

from codec_http.response_models import IndexAnswer, IndexEntry
from codec_http.state import SERVICE
from codec_wire.errors import NotFound, truncated_repr
from codec_wire.http import map_path
from codec_wire.maps.document import LatentMap
from codec_wire.version import CODEC_VERSION

CACHED = {"Cache-Control": "public, max-age=300, stale-while-revalidate=86400"}


async def index(request: web.Request) -> web.Response:
    """Answer index.json: what is published here."""
    entries = [
        IndexEntry(id=latent_space, url=map_path(latent_space), hash=bundle.hash)
        for latent_space, bundle in request.app[SERVICE].models.maps().items()
    ]
    answer = IndexAnswer(codec_version=CODEC_VERSION, maps=[], latents=entries)
    return web.json_response(answer.model_dump(), headers=CACHED)


async def latent_map(request: web.Request) -> web.Response:
    """Answer latents/<id>.json: the map's exact bytes."""
    bundle = request.app[SERVICE].models.require_map(request.match_info["id"])
    return _file(request, bundle.document, bundle.hash, "application/json")


async def dictionary(request: web.Request) -> web.Response:
    """Answer dicts/<hex>.zstd."""
    return _asset(request, lambda latent_map: {entry.hash for entry in latent_map.zstd_dictionaries})


async def scales(request: web.Request) -> web.Response:
    """Answer scales/<hex>.bin."""
    return _asset(
        request,
        lambda latent_map: {
            entry.static_scales.hash for entry in latent_map.pipelines if entry.static_scales is not None
        },
    )


def _asset(request: web.Request, published: Callable[[LatentMap], set[str]]) -> web.Response:
    """Answer with a file of a bundle. What is looked up is a key, never a path."""
    digest = f"sha256:{request.match_info['hex']}"
    for bundle in request.app[SERVICE].models.maps().values():
        if digest in published(bundle.latent_map):
            return _file(request, bundle.assets[digest], digest, "application/octet-stream")
    raise NotFound("hash", f"there is no such file here: {truncated_repr(request.match_info['hex'])}")


def _file(request: web.Request, data: bytes, digest: str, content_type: str) -> web.Response:
    """Answer with immutable bytes: 304 where the client has them already."""
    headers = CACHED | {"ETag": f'"{digest}"'}
    if digest in {tag.value for tag in request.if_none_match or ()}:
        return web.Response(status=304, headers=headers)
    return web.Response(body=data, content_type=content_type, headers=headers)
