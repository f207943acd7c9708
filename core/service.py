"""What both protocols call: a request in, the events of its generation out."""

import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from codec_wire.errors import CodecError, MapMismatch, NotFound, NotReady, TruncatedStream, truncated_repr
from codec_wire.events import Frame, Started, StreamEvent
from codec_wire.latents import FinishReason, LatentFrame
from codec_wire.maps import LatentMapBundle
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.engine import Engine, Job, Pixels, client_disconnected
from core.generation import Seen, run_with_deadline, to_public_error
from core.lifecycle import RETRY_AFTER_S, Lifecycle
from core.model import ModelInfo
from core.model_selection import choose
from core.pins import Provenance
from core.plan import StreamPlan, plan
from core.rendered_plan import plan_rendered

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """A model that is served: the model, its latent-space map, the engine that runs it, and on what."""

    model: ModelInfo
    bundle: LatentMapBundle
    engine: Engine
    device: str


class LatentService:
    """Plans, admits and runs generations; ends every failed stream the same way.

    `models` is empty until they are there; `provenance` is of the process that runs them. Used from the event loop's
    thread alone.
    """

    def __init__(self, lifecycle: Lifecycle, admission: Admission, provenance: Provenance | None = None) -> None:
        self.lifecycle = lifecycle
        self.admission = admission
        self.provenance = provenance or Provenance.current()
        self.models: tuple[Served, ...] = ()
        self._jobs: set[Job] = set()

    @property
    def served(self) -> Served | None:
        """The model that a request which names nothing gets, None until it is there. Set: it is the only one."""
        return self.models[0] if self.models else None

    @served.setter
    def served(self, served: Served | None) -> None:
        self.models = () if served is None else (served,)

    def plan(self, request: GenerationRequest) -> StreamPlan:
        """Return the plan of `request`. Raises NotReady, or what core.plan raises."""
        served = self._choose(request)
        return plan(request, served.bundle, served.model)

    def plan_rendered(self, request: GenerationRequest, count: int) -> tuple[StreamPlan, ...]:
        """Return the plans of `count` pictures as pixels. Raises NotReady, or what core.plan raises."""
        served = self._choose(request)
        return plan_rendered(request, count, served.bundle, served.model)

    def _choose(self, request: GenerationRequest) -> Served:
        self.lifecycle.require_serving()
        return choose(request, self.require_all())

    def require_all(self) -> tuple[Served, ...]:
        """Return every model that is served. Raises NotReady while they load."""
        self.require_served()
        return self.models

    def require_served(self) -> Served:
        """Return the model that a request which names nothing gets. Raises NotReady while it loads."""
        if self.served is None:
            raise NotReady(f"the server is {self.lifecycle.state}", RETRY_AFTER_S)
        return self.served

    def served_of(self, plan: StreamPlan) -> Served:
        """Return what `plan` was made for. Raises NotReady where that is no longer served."""
        for served in self.models:
            if (served.model.name, served.model.latent_space) == (plan.model, plan.header.latent_space_id) and (
                plan.modality in served.model.modalities
            ):
                return served
        raise NotReady(f"the server is {self.lifecycle.state}", RETRY_AFTER_S)

    def bundles(self) -> dict[str, LatentMapBundle]:
        """Return the maps by their latent spaces, the first model's first. Raises NotReady while they load."""
        self.require_served()
        return {served.bundle.latent_map.id: served.bundle for served in self.models}

    def modalities(self) -> tuple[str, ...]:
        """Return what the models together make. Raises NotReady while they load."""
        self.require_served()
        return tuple(dict.fromkeys(str(made) for served in self.models for made in served.model.modalities))

    def latent_map(self, latent_space: str | None) -> LatentMapBundle:
        """Return the map of that latent space, the first model's for None. Raises NotReady, NotFound."""
        bundle = self.require_served().bundle
        if latent_space is None:
            return bundle
        bundles = self.bundles()
        if latent_space not in bundles:
            raise NotFound("latent_space", f"this server has {', '.join(bundles)}, got {truncated_repr(latent_space)}")
        return bundles[latent_space]

    def require_map(self, pinned: str | None, plan: StreamPlan) -> None:
        """Check the hash of the map that a client holds for `plan`, sha256:<hex>; None where it pins none.

        Raises MapMismatch with both hashes.
        """
        if pinned is None:
            return
        ours = self.served_of(plan).bundle.hash
        if pinned != ours:
            raise MapMismatch(f"the client holds the latent-space map {pinned}, this server has {ours}")

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[StreamEvent, None]:
        """Yield the events of `plan`, whose latents are wanted.

        Raises a CodecError. Once Started was yielded, a failure first yields the frame that says so: empty data,
        `done`, finish_reason "error". After a frame that is done nothing is yielded or raised: what still fails then
        is the log's. Close the iterator (contextlib.aclosing) to cancel.
        """
        engine = self.served_of(plan).engine
        seen = Seen()
        failure: CodecError | None = None
        with self.admission.admit(plan.cost):
            self._jobs.add(job)
            try:
                async with aclosing(run_with_deadline(engine, plan, job)) as events:
                    async for event in events:
                        if not isinstance(event, Pixels):
                            seen.saw(event)
                            yield event
                if not seen.done:
                    raise TruncatedStream("the engine ended without a last frame")
            except Exception as error:
                failure = to_public_error(error)
            finally:
                job.cancel(client_disconnected())
                self._jobs.discard(job)
            if seen.sampling_s is not None:
                self.admission.learn(plan.cost, seen.sampling_s)
            if failure is None:
                return
            if seen.done:
                log.warning("after its last frame, a generation failed: %s", failure)
                return
            try:
                if seen.started:
                    keyframe = plan.is_keyframe(seen.frames)
                    yield Frame(LatentFrame(b"", seen.frames, keyframe, done=True, finish_reason=FinishReason.ERROR))
                raise failure
            finally:
                del failure  # it holds this frame, and this frame would hold it

    async def render(self, plans: Sequence[StreamPlan], job: Job) -> AsyncGenerator[Pixels, None]:
        """Yield the pixels of each of `plans`, in order. All of them are one job, admitted or refused as a whole.

        Between two of them another job may have the device. Raises a CodecError. The job keeps its place until the
        iterator is exhausted or closed (contextlib.aclosing), which cancels it.
        """
        engine = self.served_of(plans[0]).engine
        failure: CodecError | None = None
        with self.admission.admit(sum(plan.cost for plan in plans)):
            self._jobs.add(job)
            try:
                for plan in plans:
                    yield await self._rendered(engine, plan, job)
            except Exception as error:
                failure = to_public_error(error)
            finally:
                job.cancel(client_disconnected())
                self._jobs.discard(job)
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # it holds this frame, and this frame would hold it

    async def _rendered(self, engine: Engine, plan: StreamPlan, job: Job) -> Pixels:
        if job.reason is not None:  # cancelled between two of them
            raise job.reason
        part = Job(job.deadline)  # an engine ends its job with the generation, and others may follow this one
        job.on_cancel(lambda: part.cancel(job.reason or client_disconnected()))
        started_at = time.monotonic()
        pixels: Pixels | None = None
        async with aclosing(run_with_deadline(engine, plan, part)) as events:
            async for event in events:
                if isinstance(event, Started):
                    started_at = time.monotonic()
                elif isinstance(event, Pixels):
                    pixels = event
                    self.admission.learn(plan.cost, time.monotonic() - started_at)
        if pixels is None:
            raise TruncatedStream("the engine ended without pixels")
        return pixels

    def cancel_all(self, reason: Callable[[], CodecError]) -> None:
        """Ask every job in the house to stop within one step; each gets a reason of its own."""
        for job in tuple(self._jobs):
            job.cancel(reason())
