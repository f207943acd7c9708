"""One generation on the device thread. The results of the generation are sent to the event loop."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from torch import Tensor

from codec_wire.encoder import LatentEncoder
from codec_wire.errors import INTERNAL_TEXT, CodecError, without_traceback
from codec_wire.events import Frame, Preview, Started, Step
from codec_wire.latents import LatentFrame
from core.diffusers_engine.batch import BatchMember
from core.diffusers_engine.checkpoints import stop_if_cancelled
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.previews import preview_events
from core.diffusers_engine.prompt_truncation import prompt_truncations
from core.diffusers_engine.rendering import render, render_preview
from core.diffusers_engine.results import ResultQueue
from core.diffusers_engine.sampler import memory_guard
from core.diffusers_engine.weighted_prompts import embedding_arguments
from core.engine import Job, PixelPreview, Pixels
from core.plan import StreamPlan
from core.request_record import RequestRecord

log = logging.getLogger(__name__)

Result = Started | Step | Preview | PixelPreview | Frame | Tensor | Pixels | CodecError
"""The results that the device thread sends to the event loop."""

SMALL_IMAGE_BYTES = 256 * 1024
"""Maximum size in bytes of image latents that the device thread or the event loop encodes.

Encoding latents of at most this size takes less than a millisecond. Waking another thread for the encoding would take
about as long.
"""
MAX_PREVIEW_BYTES = 4 * 1024 * 1024
"""Maximum size in bytes of the previews that wait for the event loop.

If the waiting previews have reached this size, further previews are dropped.
"""


class GenerationRun:
    """One generation on the device thread. The device thread calls all methods except `__init__`.

    The queue `results` receives the event Started, the Step events, the previews, and then one last result. The last
    result is a tensor of latents, a Frame event, a Pixels object or an error. After the last result, the device no
    longer works on the job, and `future` is done.
    """

    def __init__(
        self, model: LoadedModel, plan: StreamPlan, job: Job, inputs: Mapping[str, Any], results: ResultQueue[Result]
    ) -> None:
        self.future: Future[None] = Future()
        self.member = BatchMember(plan, job, inputs, self._report, self._preview, self._leave)
        """The generation as a member of a batch. The attribute `error` of the member is set if the generation fails."""
        self._model = model
        self._results = results
        self._started_at = 0.0
        self._steps = 0

    def start(self, *, wake: bool) -> bool:
        """Send the event Started to the event loop. Return False if the run has failed.

        If `wake` is False, the event Started does not wake the event loop.
        """
        plan, job = self.member.plan, self.member.job
        try:
            stop_if_cancelled(job)
            self._started_at = job.record.record_sampling()
            variant = self._model.variant_for(plan)
            variant.family.check(variant.pipeline, plan)
            if plan.prompt_syntax is not None or plan.loras:
                # Before the event Started, so that LoRA weights that do not fit, or a prompt that cannot be encoded,
                # are errors of the request.
                with memory_guard(plan), self._model.applied_loras(plan):
                    embedding_arguments(variant, plan, self._model.prompts)
            truncations = prompt_truncations(variant, plan)
            self._results.put(Started(plan.header, truncations), wake=wake)
        except BaseException as error:
            self.fail(error)
        return self.member.error is None

    def has_ended(self) -> bool:
        """Return whether the run has failed. If the job was cancelled, this call makes the run fail."""
        if self.member.job.reason is not None:
            self.fail(self.member.job.reason)
        return self.member.error is not None

    def restart_time(self) -> None:
        """Restart the measurement of the sampling time, because the run is sampled again without the batch."""
        self._started_at = time.perf_counter()

    def finish(self, latents: Tensor, sampled_at: float, *, next_waits: bool) -> float:
        """Send the result for `latents`, which were sampled at the time `sampled_at`.

        If `next_waits` is True, another call waits for the device thread. The event loop then encodes a small image, so
        that the threads do not wait for each other's interpreter lock. Latents of other devices than the CPU are always
        encoded here, because the event loop would wait for the device.

        Return the seconds since the start of the run.
        """
        plan, record = self.member.plan, self.member.job.record
        try:
            record.sampling_s += sampled_at - self._started_at
            result: Result = latents
            if plan.rendered:
                result = render(self._model, plan, latents, self.member.job)
            elif is_small_image(plan, latents) and not (next_waits and latents.is_cpu):
                result = encode_image(plan, latents, record)
            self._end_with(result)
        except BaseException as error:
            self.fail(error)
        return time.perf_counter() - self._started_at

    def fail(self, error: BaseException) -> None:
        """Send `error` as the last result, unless the run has already failed. Unexpected errors are logged."""
        if isinstance(error, CodecError):
            self.member.leave(error)
        elif self.member.error is None:  # the event loop waits for a result in any case
            log.error("generation failed", exc_info=error)
            self.member.leave(CodecError(INTERNAL_TEXT))

    def _leave(self, error: CodecError) -> None:
        self._end_with(without_traceback(error))

    def _end_with(self, result: Result) -> None:
        """Complete the future, then send the last result.

        When the last result wakes the event loop, the event loop and the device thread compete for the interpreter
        lock. Therefore the device thread does as little as possible after sending the last result.
        """
        if not self.future.done():
            self.future.set_result(None)
        self._results.put(result)

    def _report(self, done: int, total: int) -> None:
        # If a batch fails, its members run again one by one. Completed steps are not reported a second time.
        if done <= self._steps:
            return
        self._steps = done
        self.member.job.record.steps += 1
        if self.member.job.reports_steps:
            self._results.put(Step(done, total))

    def _preview(self, done: int, total: int, estimate: Tensor) -> None:
        if done <= self._steps:
            return
        plan = self.member.plan
        if plan.rendered:
            partial_image = render_preview(self._model, plan, estimate, self.member.job)
            if partial_image is not None:
                self._results.put(partial_image)
            return
        for event in preview_events(plan, (done, total), estimate):
            # A client that does not read must not fill the memory.
            if len(self._results) * len(event.frame.data) < MAX_PREVIEW_BYTES:
                self._results.put(event)


def is_small_image(plan: StreamPlan, latents: Tensor) -> bool:
    """Return whether `latents`, [latent_frames, ...], are one frame of at most SMALL_IMAGE_BYTES."""
    return plan.latent_frames == 1 and latents.nbytes <= SMALL_IMAGE_BYTES


def encode_image(plan: StreamPlan, latents: Tensor, record: RequestRecord) -> Frame:
    """Return the only frame of `latents`, [1, ...], and record how long the encoding takes.

    Raises the errors of `encode_frame`.
    """
    started_at = time.perf_counter()
    frame = Frame(encode_frame(LatentEncoder(plan.header), latents[0], plan, seq=0))
    record.encode_s += time.perf_counter() - started_at
    return frame


def encode_frame(encoder: LatentEncoder, latent: Tensor, plan: StreamPlan, *, seq: int) -> LatentFrame:
    """Return the encoded latent frame `seq` of `plan`.

    Raises OutOfMemory if the device has too little memory. Also raises the errors of LatentEncoder.encode.
    """
    with memory_guard(plan):
        return encoder.encode(latent, keyframe=plan.is_keyframe(seq), last=seq == plan.latent_frames - 1)
