"""Handler of the encode endpoint, which encodes an image or a video that the client sends."""

import asyncio
from contextlib import aclosing, closing

from aiohttp import hdrs, web

from codec_http.body_encoder import StreamBodyEncoder
from codec_http.body_receiver import receive_body
from codec_http.encoding import choose_encoding
from codec_http.negotiation import negotiate
from codec_http.query import query_of
from codec_http.request_models import LatentsBody
from codec_http.response_headers import VARY
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from codec_http.write_deadline import WriteDeadline
from codec_wire.errors import CodecError
from codec_wire.events import Started
from codec_wire.http import LATENT_MAP_HEADER, MAP_PIN_HEADER, MODEL_HEADER, header_value
from codec_wire.maps import parse_map_pin
from codec_wire.request import parse_request_as
from core import encoding
from core.encode_plan import EncodeRequest
from core.engine import Job

ENCODE_PARAMETERS = {
    "model": "Name or alias of a model. Default: the first model with `latent_space` if it is given, otherwise the "
    "default model.",
    "latent_space": "Id of the latent space. Default: the latent space of the model.",
    "pipeline": "Pipeline that encodes the latents. Default: raw.",
    "size": 'Size in pixels as "WIDTHxHEIGHT". The image or video is scaled to cover this size, then cropped around '
    "its centre. Default: the size of the file, scaled down to the model's max_side and rounded down to "
    "multiples of size_multiple.",
    "keyframe_interval": "Number of latent frames from one keyframe to the next, for a video with a delta pipeline.",
    "seed": "Seed for sampling the VAE's latent distribution, as in a generation from an input image. Default: "
    "the mode of the distribution, without sampling.",
    "stream_format": "Serialization of the stream: msgpack or protobuf. Default: the format in the header Accept, "
    "otherwise msgpack.",
}
"""Query parameters of the encode endpoint."""


async def encode(request: web.Request) -> web.StreamResponse:
    """Handle POST /v1/latents/encode, which encodes an image or a video to a latent stream."""
    with request.app[SERVICE].admission.memory.reserve() as reservation:
        return await _encode(request, (await receive_body(request, reservation)).take())


async def _encode(request: web.Request, file: bytes) -> web.StreamResponse:
    service = request.app[SERVICE]
    fields = parse_request_as(LatentsBody, {"prompt": "-"} | query_of(request, ENCODE_PARAMETERS))
    accept = ", ".join(request.headers.getall(hdrs.ACCEPT, []))
    wire_format, content_type = negotiate(fields.stream_format, accept)
    wanted = EncodeRequest(
        file=file,
        model=fields.model,
        latent_space=fields.latent_space,
        pipeline=fields.pipeline.replace(" ", "+"),  # a "+" in a query that is not escaped means a space
        size=fields.size,
        keyframe_interval=fields.keyframe_interval,
        seed=fields.seed if "seed" in fields.model_fields_set else None,
        map_pin=parse_map_pin(request.headers.get(MAP_PIN_HEADER)),
    )
    plan, bundle = encoding.plan(service, wanted)
    coding = choose_encoding(request, bundle.dictionary(wire_format, plan.header.pipeline))
    headers = {
        hdrs.CONTENT_TYPE: content_type,
        LATENT_MAP_HEADER: plan.map_hash,
        MODEL_HEADER: header_value(plan.model),
        hdrs.VARY: VARY,
        hdrs.CACHE_CONTROL: "no-store",
    }
    response = web.StreamResponse(headers=headers | coding.headers)
    body = StreamBodyEncoder(coding.compressor(), wire_format)
    job = Job(deadline=asyncio.get_running_loop().time() + request.app[REQUEST_TIMEOUT_S])
    async with aclosing(encoding.encode(service, plan, job)) as events:
        try:
            with closing(WriteDeadline(request, response, job)) as deadline:
                async for event in events:
                    message = event.header if isinstance(event, Started) else event.frame
                    with deadline:
                        if not response.prepared:
                            await response.prepare(request)
                        await response.write(await body.encode(message))
        except CodecError as error:
            if not response.prepared:
                raise
            job.record.fail(error)  # the last frame reports it to the client
        await response.write_eof(body.finish())
    return response
