"""Response that sends the progress, the previews and the latent stream of a generation as Server-Sent Events."""

import asyncio
from contextlib import aclosing, closing

from aiohttp import web

from codec_http.body_encoder import LatentsResponse, StreamBodyEncoder
from codec_http.encoding import choose_encoding
from codec_http.errors import error_response
from codec_http.negotiation import accepted_names
from codec_http.response_headers import generation_headers, start_response
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from codec_http.write_deadline import WriteDeadline
from codec_wire import WireFormat
from codec_wire.errors import CodecError
from codec_wire.events import Started
from codec_wire.server_sent_events import ERROR, EVENT_STREAM, encode_event, server_sent_event
from core.engine import Job
from core.plan import StreamPlan


def accepts_event_stream(accept: str) -> bool:
    """Return whether an Accept header names the media type of Server-Sent Events."""
    return EVENT_STREAM in accepted_names(accept)


async def send_events(request: web.Request, plan: StreamPlan, wire_format: WireFormat) -> web.StreamResponse:
    """Run `plan` and write each event of the generation as soon as it is available.

    The messages of the latent stream are encoded in `wire_format`. If an error occurs after the HTTP header has been
    written, the error is sent as the last event. Raises a CodecError if the generation fails before the HTTP header is
    written.
    """
    service = request.app[SERVICE]
    encoding = choose_encoding(request, None)
    response = LatentsResponse(headers=generation_headers(EVENT_STREAM, plan, service, encoding))
    body = StreamBodyEncoder(encoding.compressor(), wire_format)
    job = Job(deadline=asyncio.get_running_loop().time() + request.app[REQUEST_TIMEOUT_S], reports_steps=True)
    async with aclosing(service.generate(plan, job)) as events:
        with closing(WriteDeadline(request, response, job)) as deadline:
            try:
                async for event in events:
                    with deadline:
                        if isinstance(event, Started):
                            await start_response(request, response, event)
                        await response.write(await body.compress(encode_event(event, wire_format)))
            except CodecError as error:
                if not response.prepared:
                    raise
                job.record.fail(error)
                with deadline:
                    text = error_response(error).text or ""
                    await response.write(await body.compress(server_sent_event(ERROR, text)))
            with deadline:
                await response.write_eof(body.finish())
    return response
