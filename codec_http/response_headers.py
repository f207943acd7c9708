"""Response headers of the generation endpoints, for latents and for rendered pixels."""

from collections.abc import Mapping

from aiohttp import hdrs, web

from codec_http.encoding import Encoding
from codec_wire.events import Started
from codec_wire.http import (
    CLIENT_VERSION_HEADER,
    LATENT_MAP_HEADER,
    MAP_PIN_HEADER,
    MODE_HEADER,
    MODEL_HEADER,
    PARAMETERS_HEADER,
    RESPONSE_HEADERS,
    SEED_HEADER,
    ZSTD_DICTIONARY_HEADER,
    header_value,
    truncation_headers,
)
from core.plan import StreamPlan
from core.response_parameters import response_parameters
from core.service import LatentService

DOCUMENTED_HEADERS: Mapping[str, str] = {
    **RESPONSE_HEADERS,
    hdrs.CONTENT_ENCODING: "br, gzip or zstd. Absent if the body is not compressed.",
    hdrs.VARY: "Names of the request headers that the response depends on.",
}
"""Dictionary of the descriptions of response headers in the OpenAPI document, keyed by the name of the header."""


VARY = ", ".join(
    (
        hdrs.ACCEPT,
        hdrs.ACCEPT_ENCODING,
        MAP_PIN_HEADER,
        CLIENT_VERSION_HEADER,
        ZSTD_DICTIONARY_HEADER,
        "Sec-Fetch-Mode",
    )
)
"""Value of the response header Vary.

The value lists the request headers that determine the response: latents or pixels, the format, and the content coding.
"""


def generation_headers(
    content_type: str, plan: StreamPlan, service: LatentService, encoding: Encoding
) -> dict[str, str]:
    """Return the headers of the response for `plan`."""
    served = service.models.for_plan(plan)
    return {
        hdrs.CONTENT_TYPE: content_type,
        LATENT_MAP_HEADER: served.bundle.hash,
        MODEL_HEADER: header_value(plan.model),
        SEED_HEADER: str(plan.seed),
        PARAMETERS_HEADER: response_parameters(plan, served, service.provenance),
        MODE_HEADER: str(served.acceleration),
        hdrs.VARY: VARY,
        hdrs.CACHE_CONTROL: "no-store",
    } | encoding.headers


async def start_response(request: web.Request, response: web.StreamResponse, started: Started) -> None:
    """Complete the headers of `response`, the response to `request`, once its generation has `started`, and send them.

    A LatentsResponse sends its headers later, together with the first bytes of the body.
    """
    response.headers.update(truncation_headers(started.truncations))
    await response.prepare(request)
