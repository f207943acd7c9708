"""Running of the stored video jobs of a service."""

import asyncio
import logging
from dataclasses import dataclass

from codec_wire.errors import CodecError, NotReady, OutOfStorage, Overloaded
from codec_wire.request import GenerationRequest
from core.engine import Job
from core.lifecycle import State
from core.public_errors import to_public_error
from core.request_record import RequestRecord
from core.service import LatentService
from core.video_jobs.generation import generate_video, plan_video
from core.video_jobs.job import VideoJob
from core.video_jobs.store import JobStore
from core.video_jobs.store_thread import StoreThread

log = logging.getLogger(__name__)

MAX_RETRY_S = 5.0
"""Maximum time in seconds until a refused job is tried again. A job is refused if the server is busy."""


@dataclass(slots=True)
class _Running:
    """A running video job, with the asyncio task and the progress in percent."""

    job: Job
    task: asyncio.Task[None] | None = None
    progress: int = 0


class JobRunner:
    """Runner of the jobs in `store`. The methods of `store` are called on `thread`.

    As many jobs run at the same time as the service has devices. The clients with queued jobs are served in turn. A
    running video job counts as an active job of the client, like a request. If the server is busy, a video job stays
    queued. A job may run for at most `timeout_s` seconds. The event `ended` is set whenever a job has ended.
    """

    def __init__(self, service: LatentService, store: JobStore, thread: StoreThread, timeout_s: float) -> None:
        self.ended = asyncio.Event()
        self._service = service
        self._store = store
        self._thread = thread
        self._timeout_s = timeout_s
        self._running: dict[str, _Running] = {}
        self._last_served: dict[str, int] = {}
        self._served = 0
        self._waiting_until: dict[str, float] = {}
        """Times at which the jobs of refused clients are tried again, in seconds of the event loop's clock.

        The keys of this dictionary are the clients.
        """
        self._changed = asyncio.Event()
        service.lifecycle.subscribe(lambda _state: self.wake())

    def wake(self) -> None:
        """Start queued jobs if a device is available. Call this method after a job was queued."""
        self._changed.set()

    def progress(self, job_id: str) -> int | None:
        """Return the progress of a job in percent, or None if the job does not run."""
        running = self._running.get(job_id)
        return None if running is None else running.progress

    def cancel(self, job_id: str, reason: CodecError) -> None:
        """Cancel the job with the id `job_id` if the job runs."""
        running = self._running.get(job_id)
        if running is not None:
            running.job.cancel(reason)

    async def run(self) -> None:
        """Start queued jobs whenever a device is available, until this method is cancelled.

        When this method is cancelled, the running jobs are stopped. Jobs that are stopped are queued again.
        """
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._start_all()
        finally:
            tasks = [running.task for running in self._running.values() if running.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_all(self) -> None:
        """Start queued jobs until as many jobs run as there are devices."""
        try:
            while self._can_start() and await self._start_next():
                pass
        except OutOfStorage as error:
            log.error("queued video jobs cannot be started: %s", error)  # noqa: TRY400
            asyncio.get_running_loop().call_later(MAX_RETRY_S, self.wake)

    def _can_start(self) -> bool:
        is_serving = self._service.lifecycle.state is State.SERVING
        return is_serving and len(self._running) < max(1, self._service.admission.devices)

    async def _start_next(self) -> bool:
        """Start the next queued job. Return False if no job is queued."""
        loop = asyncio.get_running_loop()
        self._waiting_until = {client: end for client, end in self._waiting_until.items() if end > loop.time()}
        stored = await self._thread.call(self._store.take_next, tuple(self._waiting_until), self._last_served)
        if stored is None:
            return False
        self._served += 1
        self._last_served[stored.client] = self._served
        # The record becomes that of the job and of its task.
        record = self._service.telemetry.begin(
            "jobs", f"video {stored.id}", "render", request_id=stored.request_id, traceparent=stored.traceparent
        )
        record.key_name, record.peer = stored.owner, "" if stored.owner else stored.client
        running = _Running(Job(loop.time() + self._timeout_s, reports_steps=True))
        self._running[stored.id] = running
        running.task = asyncio.create_task(self._run(stored, running, record))
        return True

    async def _run(self, stored: VideoJob, running: _Running, record: RequestRecord) -> None:
        """Run a job and store the outcome of the job."""
        error: CodecError | None = None
        try:
            map_hash = await self._generate(stored, running, record)
            await self._thread.call(self._store.complete, stored, map_hash)
            record.completed = True
        except asyncio.CancelledError:
            error = NotReady("the server is shutting down", 1)
            await self._thread.call(self._store.requeue, stored)
        except Exception as caught:
            error = to_public_error(caught)
            await self._end_failed(stored, error)
        finally:
            if error is not None:
                record.fail(error)
            record.status = "completed" if record.completed else record.outcome
            self._service.telemetry.end(record)
            del self._running[stored.id]
            self.wake()
            self.ended.set()

    async def _generate(self, stored: VideoJob, running: _Running, record: RequestRecord) -> str:
        """Generate the files of a job. Return the hash of the latent-space map."""
        inputs = await self._thread.call(self._store.read_inputs, stored.id)
        request = GenerationRequest.model_validate_json(stored.request, by_name=True).model_copy(update=inputs)
        planned = plan_video(self._service, request)
        map_hash = self._service.models.for_plan(planned).bundle.hash
        record.describe("render", planned, map_hash)

        def report(progress: int) -> None:
            running.progress = progress

        await generate_video(self._service, planned, running.job, self._store.files(stored.id), report)
        return map_hash

    async def _end_failed(self, stored: VideoJob, error: CodecError) -> None:
        """Store that a job failed, or queue the job again if the server was only busy or not ready.

        While the disk is full, storing the outcome of the job is tried again and again. If the server stops before the
        outcome is stored, the job runs again after the next start.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                if not isinstance(error, Overloaded | NotReady):
                    await self._thread.call(self._store.fail, stored, error.code, error.message, error.field)
                    return
                await self._thread.call(self._store.requeue, stored)
            except OutOfStorage as failure:
                log.error("the outcome of %s cannot be stored: %s", stored.id, failure)  # noqa: TRY400
                await asyncio.sleep(MAX_RETRY_S)
            else:
                delay_s = min(error.retry_after_s, MAX_RETRY_S)
                self._waiting_until[stored.client] = loop.time() + delay_s
                loop.call_later(delay_s, self.wake)
                return
