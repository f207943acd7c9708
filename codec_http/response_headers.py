"""Response headers of the generation endpoints, for latents and for rendered pixels."""

from collections.abc import Mapping

from aiohttp import hdrs

from codec_http.encoding import Encoding
from codec_wire.http import LATENT_MAP_HEADER, RESPONSE_HEADERS

DOCUMENTED_HEADERS: Mapping[str, str] = {
    **RESPONSE_HEADERS,
    hdrs.CONTENT_ENCODING: "br, gzip or zstd. Absent if the body is not compressed.",
    hdrs.VARY: "Request headers that the response depends on.",
}
"""Descriptions of the headers, for the OpenAPI document."""


def generation_headers(content_type: str, map_hash: str, encoding: Encoding) -> dict[str, str]:
    """Return the headers of a response whose latents are described by the latent-space map `map_hash`."""
    return {
        hdrs.CONTENT_TYPE: content_type,
        LATENT_MAP_HEADER: map_hash,
        hdrs.VARY: "Accept, Accept-Encoding",
        hdrs.CACHE_CONTROL: "no-store",
    } | encoding.headers
