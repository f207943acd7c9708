"""What both protocols call: a request in, the events of its generation out."""

import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from core.admission import Admission
from core.engine import Engine, Event, Frame, Job, Started, client_left, deadline_of, out_of_time
from core.errors import INTERNAL_TEXT, CodecError, MapMismatch, NotFound, NotReady, TruncatedStream, detached, shown
from core.latents import FinishReason, LatentFrame
from core.lifecycle import RETRY_AFTER_S, Lifecycle
from core.maps import LatentMapBundle
from core.model import ModelInfo
from core.plan import StreamPlan, plan
from core.request import GenerationRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """What a server that has loaded serves: a model, its latent-space map, the engine that runs it, and on what."""

    model: ModelInfo
    bundle: LatentMapBundle
    engine: Engine
    device: str


class LatentService:
    """Plans, admits and runs generations; ends every failed stream the same way.

    `served` is None until the model is there; `image_digest` is that of the image this runs in, where it was told.
    Used from the event loop's thread alone.
    """

    def __init__(self, lifecycle: Lifecycle, admission: Admission, image_digest: str | None = None) -> None:
        self.lifecycle = lifecycle
        self.admission = admission
        self.image_digest = image_digest
        self.served: Served | None = None
        self._jobs: set[Job] = set()

    def plan(self, request: GenerationRequest) -> StreamPlan:
        """Return the plan of `request`. Raises NotReady, or what core.plan raises."""
        self.lifecycle.require_serving()
        served = self.require_served()
        return plan(request, served.bundle, served.model)

    def require_served(self) -> Served:
        """Return what is served. Raises NotReady while the model loads."""
        if self.served is None:
            raise NotReady(f"the server is {self.lifecycle.state}", RETRY_AFTER_S)
        return self.served

    def latent_map(self, latent_space: str | None) -> LatentMapBundle:
        """Return the map of that latent space, the server's own for None. Raises NotReady, NotFound."""
        bundle = self.require_served().bundle
        if latent_space not in (None, bundle.latent_map.id):
            raise NotFound("latent_space", f"this server has {bundle.latent_map.id}, got {shown(latent_space)}")
        return bundle

    def require_map(self, pinned: str | None) -> None:
        """Check the hash of the map that a client holds, sha256:<hex>; None where it pins none.

        Raises MapMismatch with both hashes, NotReady while the model loads.
        """
        if pinned is None:
            return
        ours = self.require_served().bundle.hash
        if pinned != ours:
            raise MapMismatch(f"the client holds the latent-space map {pinned}, this server has {ours}")

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield the events of `plan`.

        Raises a CodecError. Once Started was yielded, a failure first yields the frame that says so: empty data,
        `done`, finish_reason "error". After a frame that is done nothing is yielded or raised: what still fails then
        is the log's. Close the iterator (contextlib.aclosing) to cancel.
        """
        engine = self.require_served().engine
        stream = _Stream()
        failure: CodecError | None = None
        with self.admission.admit(plan.cost):
            self._jobs.add(job)
            try:
                async with aclosing(_until_deadline(engine, plan, job)) as events:
                    async for event in events:
                        stream.saw(event)
                        yield event
                if not stream.done:
                    raise TruncatedStream("the engine ended without a last frame")
            except Exception as error:
                failure = _as_codec_error(error)
            finally:
                job.cancel(client_left())
                self._jobs.discard(job)
            if stream.sampling_s is not None:
                self.admission.learn(plan.cost, stream.sampling_s)
            if failure is None:
                return
            if stream.done:
                log.warning("after its last frame, a generation failed: %s", failure)
                return
            try:
                if stream.started:
                    keyframe = plan.is_keyframe(stream.frames)
                    yield Frame(LatentFrame(b"", stream.frames, keyframe, done=True, finish_reason=FinishReason.ERROR))
                raise failure
            finally:
                del failure  # it holds this frame, and this frame would hold it

    def cancel_all(self, reason: Callable[[], CodecError]) -> None:
        """Ask every job in the house to stop within one step; each gets a reason of its own."""
        for job in tuple(self._jobs):
            job.cancel(reason())


class _Stream:
    """What has been seen of one stream."""

    def __init__(self) -> None:
        self.frames = 0
        self.done = False
        self.sampling_s: float | None = None
        self._started_at: float | None = None

    @property
    def started(self) -> bool:
        """Whether the header went out."""
        return self._started_at is not None

    def saw(self, event: Event) -> None:
        """Take note of `event`; from the start to the first frame, the device was sampling."""
        if isinstance(event, Started):
            self._started_at = time.monotonic()
        elif isinstance(event, Frame):
            if self.frames == 0 and self._started_at is not None:
                self.sampling_s = time.monotonic() - self._started_at
            self.frames += 1
            self.done = event.frame.done


async def _until_deadline(engine: Engine, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
    async with aclosing(engine.generate(plan, job)) as events:
        try:
            while True:
                timeout = deadline_of(job)
                try:
                    async with timeout:
                        event = await anext(events, None)
                except TimeoutError:
                    if timeout.expired():  # and not one that the engine met
                        raise out_of_time() from None
                    raise
                if event is None:
                    return
                yield event
        finally:
            job.cancel(client_left())


def _as_codec_error(error: Exception) -> CodecError:
    if isinstance(error, CodecError):
        return detached(error)
    log.error("a generation failed", exc_info=error)
    return CodecError(INTERNAL_TEXT)
