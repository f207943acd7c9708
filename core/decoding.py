"""Decoding of received latent streams, for HTTP and gRPC."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from codec_wire.errors import CodecError, InvalidRequest
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.message_decoder import Message
from core.deadline import before_deadline
from core.decode_plan import DecodePlan, DecodeRequest, modality_of, plan_decode
from core.engine import Job
from core.public_errors import to_public_error
from core.received_stream import LATENTS_FIELD
from core.service import LatentService


async def decode(
    service: LatentService, request: DecodeRequest, messages: AsyncGenerator[Message, None], job: Job
) -> AsyncGenerator[DecodePlan | bytes, None]:
    """Yield the plan, then the pixels in the format that the plan names. See core.vae_engine.VaeEngine.decode.

    `messages` yields the header of the latent stream, then the frames of the stream. The iterator `messages` must raise
    an error if the stream is invalid or incomplete. The decoding job is admitted when the header of the stream has been
    received. The job stays active until the returned iterator is exhausted or closed (contextlib.aclosing). Closing the
    iterator cancels the job. All frames are received before the plan is yielded, so that no pixels are sent for an
    invalid stream.

    Raises a CodecError if the stream is invalid or decoding fails.
    """
    failure: CodecError | None = None
    try:
        async with aclosing(messages):
            header = await before_deadline(anext(messages, None), job)
            if not isinstance(header, LatentStreamHeader):
                raise InvalidRequest(LATENTS_FIELD, "the stream is empty")
            served = service.models.with_vae(header.latent_space_id, modality_of(header), request.model)
            served.require_map_hash(request.map_pin)
            plan = plan_decode(request, header, served.bundle.hash, served.model)
            job.record.describe("decode", plan, plan.map_hash)
            memory = served.memory_of_received(plan)
            with service.active(job, plan.cost, memory=memory), service.admission.memory.reserve() as received:
                frames: list[LatentFrame] = []
                while (message := await before_deadline(anext(messages, None), job)) is not None:
                    assert isinstance(message, LatentFrame)  # noqa: S101 - the reader rejects a second header
                    received.grow(len(message.data))
                    frames.append(message)
                if len(frames) != plan.latent_frames:  # the sender stopped early
                    header = replace(header, total_frames=len(frames))
                    plan = plan_decode(request, header, served.bundle.hash, served.model)
                yield plan
                async with aclosing(served.require_vae().decode(plan, frames, job)) as parts:
                    while (part := await before_deadline(anext(parts, None), job)) is not None:
                        yield part
    except Exception as error:
        failure = to_public_error(error)
    try:
        if failure is not None:
            raise failure
    finally:
        del failure  # break the reference cycle between the exception and this frame
