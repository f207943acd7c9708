"""The gRPC method Decode, which decodes a latent stream to pixels."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

from codec_grpc.call import Call
from codec_grpc.pixel_formats import FORMATS
from codec_wire.codings import IDENTITY
from codec_wire.errors import InvalidRequest
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import MAP_HASH_KEY, MODEL_KEY
from codec_wire.http import header_value
from codec_wire.message_decoder import Message
from codec_wire.protobuf_envelope import frame_from_message, header_from_message
from core import decoding
from core.deadline import before_deadline
from core.decode_plan import MAX_QUALITY, DecodePlan, DecodeRequest
from core.engine import Job
from core.pixel_format import PixelFormat
from core.received_stream import LATENTS_FIELD, BodyReader, MessageReader, invalid_stream
from core.service import LatentService


async def decode(
    service: LatentService, requests: AsyncIterator[pb.DecodeRequest], call: Call, job: Job
) -> AsyncGenerator[pb.DecodeResponse, None]:
    """Yield the messages of one call of Decode. Raises a CodecError if the call fails."""
    first = await _first(requests, job)
    wanted = _wanted(first.options, call.map_pin)
    messages = _messages(_body_reader(first, service.models.zstd_dictionaries()), _chain(first, requests))
    del first  # its memory is free after the message has been read
    async with aclosing(decoding.decode(service, wanted, messages, job)) as parts:
        async for part in parts:
            if isinstance(part, DecodePlan):
                call.response_metadata = ((MAP_HASH_KEY, part.map_hash), (MODEL_KEY, header_value(part.model)))
            yield _to_message(part)


async def _first(requests: AsyncIterator[pb.DecodeRequest], job: Job) -> pb.DecodeRequest:
    try:
        return await before_deadline(anext(requests), job)
    except StopAsyncIteration:
        raise InvalidRequest(LATENTS_FIELD, "must contain a latent stream, but the call sent no message") from None


def _wanted(options: pb.DecodeOptions, map_pin: str | None) -> DecodeRequest:
    pixel_format = FORMATS.get(options.format)
    if pixel_format is None:
        raise InvalidRequest("format", f"must be one of {', '.join(PixelFormat)}, got {options.format}")
    return DecodeRequest(
        image_formats=() if pixel_format is PixelFormat.MP4 else (pixel_format,),
        video_formats=(pixel_format,),
        model=options.model or None,
        map_pin=map_pin,
        quality=options.quality if options.HasField("quality") else MAX_QUALITY,
    )


def _body_reader(first: pb.DecodeRequest, dictionaries: Mapping[str, bytes]) -> BodyReader | None:
    """Return a reader of the latent stream if the stream is received as a body, otherwise None."""
    if first.WhichOneof("part") != "body":
        return None
    return BodyReader(None, first.options.content_encoding or IDENTITY, dictionaries)


async def _messages(
    body: BodyReader | None, requests: AsyncIterator[pb.DecodeRequest]
) -> AsyncGenerator[Message, None]:
    """Yield the header and the frames of the latent stream in `requests`. `body` reads a stream that is a body.

    Raises InvalidRequest if the stream is invalid or incomplete.
    """
    reader = MessageReader()
    async for request in requests:
        kind = request.WhichOneof("part")
        if kind is None:
            continue  # a message with only options, or with a part that this version does not know
        if (kind == "body") != (body is not None):
            raise InvalidRequest(LATENTS_FIELD, "body must not be combined with header or frame in one stream")
        if body is not None:
            messages = await asyncio.to_thread(body.feed, request.body)
        else:
            with invalid_stream():
                part = header_from_message(request.header) if kind == "header" else frame_from_message(request.frame)
            messages = [reader.add(part)]
            del part
        del request  # it must not take memory while the next message is received
        while messages:
            yield messages.pop(0)
    if body is None:
        reader.close()
        return
    for message in await asyncio.to_thread(body.close):
        yield message


async def _chain(
    first: pb.DecodeRequest, requests: AsyncIterator[pb.DecodeRequest]
) -> AsyncGenerator[pb.DecodeRequest, None]:
    yield first
    del first
    async for request in requests:
        yield request
        del request


def _to_message(part: DecodePlan | bytes) -> pb.DecodeResponse:
    if isinstance(part, bytes):
        return pb.DecodeResponse(data=part)
    size = pb.DecodedSize(width=part.width, height=part.height, num_frames=part.num_frames, fps=part.header.fps)
    return pb.DecodeResponse(size=size)
