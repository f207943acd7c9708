"""What both protocols call: a request in, the events of its generation out."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from core.admission import Admission
from core.engine import Engine, Event, Frame, Job, Started, client_left, deadline_of, out_of_time
from core.errors import CodecError, MapMismatch, NotFound, NotReady
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

    `served` is None until the model is there. Used from the event loop's thread alone.
    """

    def __init__(self, lifecycle: Lifecycle, admission: Admission) -> None:
        self.lifecycle = lifecycle
        self.admission = admission
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
            raise NotFound("latent_space", f"this server has {bundle.latent_map.id}, got {latent_space!r}")
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
        `done`, finish_reason "error". Close the iterator (contextlib.aclosing) to cancel.
        """
        engine = self.require_served().engine
        seq, started = 0, False
        with self.admission.admit(plan.cost):
            self._jobs.add(job)
            try:
                async with aclosing(self._until_deadline(engine, plan, job)) as events:
                    async for event in events:
                        started = started or isinstance(event, Started)
                        seq += isinstance(event, Frame)
                        yield event
            except Exception as error:
                if started:
                    yield Frame(
                        LatentFrame(b"", seq, plan.is_keyframe(seq), done=True, finish_reason=FinishReason.ERROR)
                    )
                raise self._as_codec_error(error) from error
            finally:
                job.cancel(client_left())
                self._jobs.discard(job)

    def cancel_all(self, reason: CodecError) -> None:
        """Ask every job in the house to stop within one step."""
        for job in self._jobs:
            job.cancel(reason)

    async def _until_deadline(self, engine: Engine, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        events = engine.generate(plan, job)
        try:
            while True:
                async with deadline_of(job):
                    event = await anext(events, None)
                if event is None:
                    return
                yield event
        except TimeoutError:
            raise out_of_time() from None
        finally:
            job.cancel(client_left())
            await events.aclose()

    @staticmethod
    def _as_codec_error(error: Exception) -> CodecError:
        if isinstance(error, CodecError):
            return error
        log.exception("a generation failed", exc_info=error)
        return CodecError("the generation failed; the server's log has the reason")
