"""The service that plans requests and runs generations for HTTP and gRPC."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace

from codec_wire.errors import CodecError, Overloaded, SequenceError, TruncatedStream
from codec_wire.events import Frame, Started, StreamEvent
from codec_wire.latents import FinishReason, LatentFrame
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.deadline import Deadline, before_deadline
from core.engine import Engine, Job, PixelPreview, Pixels
from core.engine_failures import EngineFailures
from core.lifecycle import Lifecycle, State
from core.pins import Provenance
from core.plan import StreamPlan, plan
from core.public_errors import to_public_error
from core.rendered_plan import plan_rendered
from core.request_record import current_record
from core.served import ServedModels
from core.telemetry import Telemetry
from core.working_memory import NO_MEMORY, JobMemory

log = logging.getLogger(__name__)

_PIXEL_EVENTS = (Pixels, PixelPreview)


class LatentService:
    """Service that plans, admits and runs generations.

    A stream that fails after the first event ends with an error frame.

    `provenance` describes the process that runs the models. This class is not thread-safe: use it only from the event
    loop's thread.
    """

    def __init__(self, lifecycle: Lifecycle, admission: Admission, provenance: Provenance | None = None) -> None:
        self.lifecycle = lifecycle
        self.admission = admission
        self.provenance = provenance or Provenance.current()
        self.models = ServedModels(lifecycle)
        self.failures = EngineFailures()
        self.telemetry = Telemetry()
        self._jobs: set[Job] = set()

    async def require_place(self, client: str) -> None:
        """Check that `client` may have another active job. Call this method before any other work for the request.

        If the server is not serving, nothing is checked, because the later selection of a model raises NotReady.

        Raises Overloaded if `client` has too many active jobs or the queue is full. If `client` was rejected before and
        did not wait for the time in Retry-After, Overloaded is raised after a delay. Without the delay, the
        requests of a client that retries in a loop would slow down the generations.
        """
        if self.lifecycle.state is not State.SERVING:
            return
        try:
            self.admission.require_place(client)
        except Overloaded as error:
            delay_s = self.admission.refusals.delay_s(client, error.retry_after_s)
            if delay_s:
                await asyncio.sleep(delay_s)
            raise

    def plan(self, request: GenerationRequest) -> StreamPlan:
        """Return the plan for `request`.

        Raises the errors of ServedModels.for_request and core.plan.plan. For example, NotReady is raised if the server
        does not accept requests.
        """
        served = self.models.for_request(request)
        planned = plan(request, served.bundle, served.model)
        current_record().describe("generate", planned, served.bundle.hash)
        return planned

    def plan_rendered(self, request: GenerationRequest, count: int, partial_images: int = 0) -> tuple[StreamPlan, ...]:
        """Return the plans for `count` images or videos that are sent as pixels, each with `partial_images` previews.

        Raises the errors of ServedModels.for_request and core.rendered_plan.plan_rendered.
        """
        served = self.models.for_request(request)
        plans = plan_rendered(request, count, partial_images, served.bundle, served.model)
        current_record().describe("render", plans[0], served.bundle.hash)
        return plans

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[StreamEvent, None]:
        """Yield the events of `plan`. The classes of the events are `Started`, `Step`, `Preview` and `Frame`.

        Close the iterator (contextlib.aclosing) to cancel the generation.

        Raises a CodecError if the generation fails. If the generation fails after the event `Started`, a last frame is
        yielded before the error is raised. The last frame of a failed generation has empty data and the finish_reason
        "error". An error after the last frame is logged and not raised.
        """
        served = self.models.for_plan(plan)
        engine = served.require_engine()
        record, done = job.record, False
        failure: CodecError | None = None
        with self.active(job, plan.cost, plan.request_bytes, served.memory_of(plan)):
            deadline = Deadline(job)
            try:
                async with aclosing(engine.generate(plan, job)) as events:
                    while True:
                        with deadline:
                            event = await anext(events, None)
                        if event is None:
                            break
                        if isinstance(event, _PIXEL_EVENTS):
                            continue
                        if done:
                            raise SequenceError("the engine sent an event after the last frame")
                        record.record_event(event)
                        done = isinstance(event, Frame) and event.frame.done
                        yield event
                if not done:
                    raise TruncatedStream("the engine ended the stream without a last frame")
            except Exception as error:
                failure = to_public_error(error)
            finally:
                deadline.close()
            if record.header_at is not None and record.first_frame_at is not None:
                # For short jobs, Started and the first frame reach the event loop together.
                seconds = record.sampling_s or record.first_frame_at - record.header_at
                self.admission.record_duration(plan.cost, seconds / (record.batch_size or 1))
            if failure is None:
                return
            if done:
                log.warning("a generation failed after its last frame: %s", failure)
                return
            try:
                if record.header_at is not None:
                    yield _error_frame(plan, record.frames)
                raise failure
            finally:
                del failure  # break the reference cycle between the exception and this frame

    async def render(
        self, plans: Sequence[StreamPlan], job: Job
    ) -> AsyncGenerator[Started | PixelPreview | Pixels, None]:
        """Run `plans` in order as one job. For each plan, yield the events `Started`, `PixelPreview` and `Pixels`.

        The job is admitted or rejected as a whole. Other jobs may run between two plans. Raises a CodecError if a plan
        fails. The job stays active until the iterator is exhausted or closed (contextlib.aclosing). Closing the
        iterator cancels the job.
        """
        served = self.models.for_plan(plans[0])
        engine = served.require_engine()
        failure: CodecError | None = None
        cost, request_bytes = sum(plan.cost for plan in plans), plans[0].request_bytes  # all have the same images
        try:
            with self.active(job, cost, request_bytes, served.memory_of(plans[0])):  # one after another
                for plan in plans:
                    async with aclosing(self._pixels(engine, plan, job)) as events:
                        async for event in events:
                            yield event
        except Exception as error:
            failure = to_public_error(error)
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # break the reference cycle between the exception and this frame

    @property
    def queued_jobs(self) -> int:
        """Number of active jobs for which the model has not yet started to work."""
        return sum(job.record.sampling_at is None for job in self._jobs)

    def cancel_all(self, reason: Callable[[], CodecError]) -> None:
        """Cancel every active job. `reason` is called once for each job, because jobs cannot share an exception."""
        for job in tuple(self._jobs):
            job.cancel(reason())

    @contextmanager
    def active(self, job: Job, cost: int, request_bytes: int = 0, memory: JobMemory = NO_MEMORY) -> Iterator[None]:
        """Admit `job` and add `job` to the active jobs until the end of the `with` block.

        At the end of the block, the job is cancelled. If the block raised an error, a failure is recorded. The
        cancelled job counts toward the limits of Admission until the device no longer works on the job. Raises the
        errors of Admission.admit.
        """
        place = self.admission.admit(cost, request_bytes, job.record.client, memory)
        job.memory = memory
        job.record.record_admission()
        self._jobs.add(job)
        try:
            yield
        except Exception as error:
            self.failures.record(error)
            raise
        else:
            self.failures.reset()
        finally:
            job.abandon()
            self._jobs.discard(job)
            job.when_free(place.free)

    async def _pixels(
        self, engine: Engine, plan: StreamPlan, job: Job
    ) -> AsyncGenerator[Started | PixelPreview | Pixels, None]:
        """Yield the events of `plan`, one of the plans that run as the job `job`.

        Raises the errors of the engine. Raises TruncatedStream if the engine yields no pixels.
        """
        if job.reason is not None:  # cancelled between two plans
            raise job.reason
        # An engine cancels its job at the end of a generation, and `job` may have more plans.
        part = job.part()
        started_at = time.monotonic()
        pixels: Pixels | None = None
        async with aclosing(engine.generate(plan, part)) as events:
            while (event := await before_deadline(anext(events, None), part)) is not None:
                if isinstance(event, Started):
                    started_at = time.monotonic()
                    yield event
                elif isinstance(event, PixelPreview):
                    yield event
                elif isinstance(event, Pixels):
                    pixels = replace(event, generation_s=time.monotonic() - started_at)
        if pixels is None:
            raise TruncatedStream("the engine ended the stream without pixels")
        # After the end of the stream, with which an engine on Ray Serve sends the size of the batch.
        self.admission.record_duration(plan.cost, pixels.generation_s / (job.record.batch_size or 1))
        yield pixels


def _error_frame(plan: StreamPlan, seq: int) -> Frame:
    return Frame(LatentFrame(b"", seq, plan.is_keyframe(seq), done=True, finish_reason=FinishReason.ERROR))
