"""The gRPC method Encode, which encodes an image or a video to a latent stream."""

import asyncio
from contextlib import aclosing, closing
from typing import TypeAlias

import grpc.aio

from codec_wire.events import Started
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import MAP_HASH_KEY, MAP_PIN_KEY, MODEL_KEY
from codec_wire.http import header_value
from codec_wire.maps import parse_map_pin
from codec_wire.protobuf_envelope import frame_to_message, header_to_message
from core import encoding
from core.deadline import Deadline
from core.encode_plan import EncodeRequest
from core.engine import Job
from core.service import LatentService

Context: TypeAlias = "grpc.aio.ServicerContext[pb.EncodeRequest, pb.EncodeResponse]"


async def encode(service: LatentService, request: pb.EncodeRequest, context: Context, timeout_s: float) -> None:
    """Handle one call of Encode, which may take at most `timeout_s` seconds. Raises a CodecError if the call fails."""
    pin = dict(context.invocation_metadata() or ()).get(MAP_PIN_KEY)
    plan, _ = encoding.plan(
        service,
        EncodeRequest(
            file=request.file,
            model=request.model or None,
            latent_space=request.latent_space or None,
            pipeline=request.pipeline or "raw",
            size=(request.size.width, request.size.height) if request.HasField("size") else None,
            keyframe_interval=request.keyframe_interval or None,
            seed=request.seed if request.HasField("seed") else None,
            map_pin=parse_map_pin(None if pin is None else str(pin)),
        ),
    )
    await context.send_initial_metadata([(MAP_HASH_KEY, plan.map_hash), (MODEL_KEY, header_value(plan.model))])
    remaining = context.time_remaining()
    seconds = timeout_s if remaining is None else min(remaining, timeout_s)
    job = Job(deadline=asyncio.get_running_loop().time() + seconds)
    # A client that does not read must not keep the job active after the deadline.
    async with aclosing(encoding.encode(service, plan, job)) as events:
        with closing(Deadline(job)) as deadline:
            async for event in events:
                if isinstance(event, Started):
                    message = pb.EncodeResponse(header=header_to_message(event.header))
                else:
                    message = pb.EncodeResponse(frame=frame_to_message(event.frame))
                with deadline:
                    await context.write(message)
