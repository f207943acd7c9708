"""Encoding of received images and videos to latent streams, for HTTP and gRPC."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from codec_wire.errors import CodecError
from codec_wire.events import Frame, Started
from codec_wire.latents import FinishReason, LatentFrame
from codec_wire.maps import LatentMapBundle
from core.deadline import before_deadline
from core.encode_plan import EncodePlan, EncodeRequest, modality_of_file, plan_encode
from core.engine import Job
from core.public_errors import to_public_error
from core.request_record import current_record
from core.served import ModelInstance
from core.service import LatentService


def plan(service: LatentService, request: EncodeRequest) -> tuple[EncodePlan, LatentMapBundle]:
    """Return the plan for `request` and the latent-space map of the model in the plan.

    Raises the errors of ServedModels.with_vae and core.encode_plan.plan_encode. Raises MapMismatch if the client
    requires another latent-space map.
    """
    modality = modality_of_file(request.file)
    served = service.models.with_vae(request.latent_space, modality, request.model)
    served.require_map_hash(request.map_pin)
    planned = plan_encode(request, served.bundle, served.model)
    current_record().describe("encode", planned, planned.map_hash)
    return planned, served.bundle


async def encode(service: LatentService, plan: EncodePlan, job: Job) -> AsyncGenerator[Started | Frame, None]:
    """Encode the file of `plan`, and yield the header and the frames of the latent stream.

    See core.vae_engine.VaeEngine.encode.

    The job is active until the returned iterator is exhausted or closed (contextlib.aclosing). Closing the returned
    iterator cancels the job. Raises a CodecError if encoding fails. If encoding fails after the header was yielded, a
    last frame is yielded before the error is raised. The last frame has no data and the finish_reason "error".
    """
    failure: CodecError | None = None
    started, frames = False, 0
    try:
        served: ModelInstance = service.models.with_vae(plan.header.latent_space_id, plan.modality, plan.model)
        with service.active(job, plan.cost):
            async with aclosing(served.require_vae().encode(plan, job)) as events:
                while (event := await before_deadline(anext(events, None), job)) is not None:
                    started, frames = True, frames + isinstance(event, Frame)
                    job.record.record_event(event)
                    yield event
    except Exception as error:
        failure = to_public_error(error)
    try:
        if failure is None:
            return
        if started:
            keyframe = plan.is_keyframe(frames)
            yield Frame(LatentFrame(b"", frames, keyframe, done=True, finish_reason=FinishReason.ERROR))
        raise failure
    finally:
        del failure  # break the reference cycle between the exception and this frame
