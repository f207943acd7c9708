"""The gRPC method Generate, which streams one generation."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from codec_grpc.call import Call
from codec_grpc.messages import request_from_message
from codec_grpc.receptions import end_reception
from codec_wire.events import Frame, Preview, Started, Step, StreamEvent
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import MAP_HASH_KEY, MODE_KEY, MODEL_KEY, PARAMETERS_KEY, SEED_KEY, serialized_frame
from codec_wire.http import header_value
from codec_wire.latents import FinishReason
from codec_wire.protobuf_envelope import frame_to_message, header_to_message
from core.engine import Job
from core.response_parameters import response_parameters
from core.service import LatentService

MessageT = TypeVar("MessageT")


async def generate(
    service: LatentService,
    request: pb.GenerateRequest,
    call: Call,
    job: Job,
    to_message: Callable[[StreamEvent], MessageT],
) -> AsyncGenerator[MessageT, None]:
    """Yield the messages of one generation, which `to_message` makes. Close the iterator to cancel the job.

    Raises a CodecError if the generation fails.
    """
    pinned = call.map_pin
    reports_steps = request.progress
    plan = service.plan(request_from_message(request))
    del request  # `plan` has copies of the images
    served = service.models.for_plan(plan)
    served.require_map_hash(pinned)
    call.response_metadata = (
        (MAP_HASH_KEY, served.bundle.hash),
        (MODEL_KEY, header_value(plan.model)),
        (SEED_KEY, str(plan.seed)),
        (PARAMETERS_KEY, response_parameters(plan, served, service.provenance)),
        (MODE_KEY, str(served.acceleration)),
    )
    end_reception()  # `service.generate` counts the memory of the images
    async with aclosing(service.generate(plan, job)) as events:
        async for event in events:
            if reports_steps or not isinstance(event, Step):
                yield to_message(event)
            if isinstance(event, Frame) and event.frame.done:
                job.record.completed = event.frame.finish_reason is not FinishReason.ERROR


def serialized_response(event: StreamEvent) -> bytes:
    """Return the serialized response message for `event`."""
    if isinstance(event, Frame):
        return serialized_frame(event.frame)
    return response_message(event).SerializeToString()


def response_message(event: StreamEvent) -> pb.GenerateResponse:
    """Return the response message for `event`."""
    if isinstance(event, Started):
        truncations = [
            pb.PromptTruncation(field=item.field, encoder=item.encoder, dropped_tokens=item.dropped_tokens)
            for item in event.truncations
        ]
        return pb.GenerateResponse(header=header_to_message(event.header), prompt_truncations=truncations)
    if isinstance(event, Frame):
        return pb.GenerateResponse(frame=frame_to_message(event.frame))
    if isinstance(event, Preview):
        frame = frame_to_message(event.frame)
        return pb.GenerateResponse(preview=pb.Preview(step=event.index, total_steps=event.total, frame=frame))
    return pb.GenerateResponse(progress=pb.Progress(step=event.index, total_steps=event.total))
