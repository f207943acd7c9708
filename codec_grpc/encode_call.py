"""The gRPC method Encode, which encodes an image or a video to a latent stream."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from codec_grpc.call import Call
from codec_grpc.receptions import end_reception
from codec_wire.events import Started
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import MAP_HASH_KEY, MODEL_KEY
from codec_wire.http import header_value
from codec_wire.protobuf_envelope import frame_to_message, header_to_message
from core import encoding
from core.encode_plan import EncodeRequest
from core.engine import Job
from core.service import LatentService


async def encode(
    service: LatentService, request: pb.EncodeRequest, call: Call, job: Job
) -> AsyncGenerator[pb.EncodeResponse, None]:
    """Yield the messages of one call of Encode. Raises a CodecError if the call fails."""
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
            map_pin=call.map_pin,
        ),
    )
    del request  # `plan` has a copy of the file
    call.response_metadata = ((MAP_HASH_KEY, plan.map_hash), (MODEL_KEY, header_value(plan.model)))
    end_reception()  # before the reservation: a slow reception has reserved the maximum size of a message
    with service.admission.memory.reserve(len(plan.file.data)):
        async with aclosing(encoding.encode(service, plan, job)) as events:
            async for event in events:
                if isinstance(event, Started):
                    yield pb.EncodeResponse(header=header_to_message(event.header))
                else:
                    yield pb.EncodeResponse(frame=frame_to_message(event.frame))
