"""The queue of video jobs: creates, runs, cancels and expires the jobs of a service."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from codec_wire.errors import Cancelled, CodecError, NotReady, OutOfStorage, Overloaded
from codec_wire.request import GenerationRequest
from core.engine import Job
from core.generation import to_public_error
from core.lifecycle import State
from core.request_record import RequestRecord
from core.service import LatentService
from core.video_jobs.files import JobFiles
from core.video_jobs.generation import generate_video, max_result_bytes, plan_video
from core.video_jobs.job import JobLimits, JobStatus, VideoJob, new_job_id
from core.video_jobs.metrics import register_job_metrics
from core.video_jobs.store import JobStore

log = logging.getLogger(__name__)

T = TypeVar("T")

SUBFOLDER = "videos"
"""Folder in CODEC_DATA_DIR that contains the store."""
MAX_RETRY_S = 5.0
"""Maximum time in seconds until a job that was refused because the server is busy is tried again."""
_MAX_SLEEP_S = 60.0
"""Maximum time in seconds between two checks for expired jobs. The clock of the machine may be set."""


@dataclass(slots=True)
class _Running:
    """A job that runs, its task, and its progress in percent."""

    job: Job
    task: asyncio.Task[None] | None = None
    progress: int = 0


class VideoJobs:
    """The video jobs of a service.

    As many jobs run at the same time as the service has devices. The clients with queued jobs are served in turn. A
    running job is an active job of its client like any other request. If the server is busy, the job stays queued.

    Without `data_dir`, the jobs are stored in a temporary directory. It is created for the first job and deleted by
    `stop`. A job may run for `timeout_s` seconds. This class is not thread-safe: use it only from the event loop's
    thread.
    """

    def __init__(
        self, service: LatentService, timeout_s: float, limits: JobLimits | None = None, data_dir: Path | None = None
    ) -> None:
        self.limits = limits or JobLimits()
        self._service = service
        self._timeout_s = timeout_s
        self._data_dir = data_dir
        self._temporary: TemporaryDirectory[str] | None = None
        self._store: JobStore | None = None
        self._opening = asyncio.Lock()
        self._executor = ThreadPoolExecutor(1, "video-jobs")
        self._running: dict[str, _Running] = {}
        self._last_served: dict[str, int] = {}
        self._served = 0
        self._waiting_until: dict[str, float] = {}
        """Time at which the jobs of a client that was refused are tried again, in seconds of the loop's clock."""
        self._changed = asyncio.Event()
        self._expiry_changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        service.lifecycle.subscribe(lambda _state: self._changed.set())
        register_job_metrics(service.telemetry.metrics.registry, self.usage)

    def usage(self) -> Mapping[JobStatus, tuple[int, int]]:
        """Return the number and the total size in bytes of the stored jobs, by status."""
        return {} if self._store is None else self._store.usage

    async def start(self) -> None:
        """Open the store in `data_dir`, if it is set, and begin to run its jobs.

        Raises InvalidSettings if the directory cannot be used.
        """
        if self._data_dir is not None:
            await self._open()

    async def require_place(self, client: str) -> None:
        """Raise Overloaded if `client` cannot store another job. Call this method before any other work."""
        if self._store is not None:
            await self._call(self._store.require_place, client)

    async def create(self, request: GenerationRequest, record: RequestRecord) -> VideoJob:
        """Store a job for `request`, which the HTTP request of `record` has sent, and queue it.

        Raises the errors of plan_video, and Overloaded or TooLarge if there is not enough space.
        """
        planned = plan_video(self._service, request)
        inputs = {name: value for name, value in request if isinstance(value, bytes)}
        # The seed and the model are fixed now, so that a job that is run again has the same result.
        fixed = request.model_copy(update={"model": planned.model, "seed": planned.seed})
        job = VideoJob(
            id=new_job_id(),
            owner=record.key_name,
            client=record.client,
            status=JobStatus.QUEUED,
            request=fixed.model_dump_json(exclude=set(inputs), exclude_none=True),
            model=planned.model,
            width=planned.width,
            height=planned.height,
            num_frames=planned.num_frames,
            fps=planned.header.fps or 1,
            seed=planned.seed,
            created_at=int(time.time()),
            size_bytes=max_result_bytes(planned),
            request_id=record.request_id,
            traceparent=record.traceparent,
        )
        store = await self._open()
        stored = await self._call(store.add, job, inputs)
        self._changed.set()
        return stored

    async def get(self, job_id: str, owner: str | None) -> VideoJob:
        """Return a job of `owner`. Raises NotFound if it does not exist."""
        return await self._call((await self._open()).get, job_id, owner)

    async def page(
        self, owner: str | None, after: str | None, limit: int, *, ascending: bool
    ) -> tuple[list[VideoJob], bool]:
        """Return up to `limit` jobs of `owner` after the job `after`, and whether more jobs follow.

        Raises InvalidRequest if `owner` has no job `after`.
        """
        store = await self._open()
        return await self._call(lambda: store.page(owner, after, limit, ascending=ascending))

    async def delete(self, job_id: str, owner: str | None) -> None:
        """Delete a job of `owner` and its files. A running job is cancelled. Raises NotFound if it does not exist."""
        await self._call((await self._open()).delete, job_id, owner)
        running = self._running.get(job_id)
        if running is not None:
            running.job.cancel(Cancelled("the video was deleted"))

    def progress(self, job: VideoJob) -> int:
        """Return the progress of `job` in percent."""
        running = self._running.get(job.id)
        if running is not None:
            return running.progress
        return 100 if job.status is JobStatus.COMPLETED else 0

    async def files(self, job: VideoJob) -> JobFiles:
        """Return the files of `job`."""
        return (await self._open()).files(job.id)

    async def stop(self) -> None:
        """Stop the jobs and close the store. Jobs that have not ended are run after the next start."""
        tasks = [*self._tasks, *(running.task for running in self._running.values() if running.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._store is not None:
            await self._call(self._store.close)
            self._store = None
        self._executor.shutdown()
        if self._temporary is not None:
            self._temporary.cleanup()

    async def _open(self) -> JobStore:
        """Return the store. Open it and begin to run its jobs if it is not open."""
        async with self._opening:
            if self._store is None:
                folder = self._data_dir
                if folder is None:
                    folder = await self._call(self._temporary_folder)
                self._store = await self._call(JobStore, folder / SUBFOLDER, self.limits)
                self._tasks = [asyncio.create_task(self._run_jobs()), asyncio.create_task(self._expire_jobs())]
            return self._store

    def _temporary_folder(self) -> Path:
        try:
            self._temporary = TemporaryDirectory(prefix="codec-diffusers-")
        except OSError as error:
            raise OutOfStorage(
                f"no temporary directory for video jobs can be created ({error.strerror}): set CODEC_DATA_DIR "
                "(--data-dir) to a directory in which the server may write"
            ) from None
        log.info("video jobs are stored until the server stops: %s; set CODEC_DATA_DIR to keep them", self._temporary)
        return Path(self._temporary.name)

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    async def _run_jobs(self) -> None:
        """Start queued jobs whenever a device is available."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                while self._can_start() and await self._start_next():
                    pass
            except CodecError as error:  # of the disk
                log.error("queued video jobs cannot be started: %s", error)  # noqa: TRY400
                asyncio.get_running_loop().call_later(MAX_RETRY_S, self._changed.set)

    def _can_start(self) -> bool:
        is_serving = self._service.lifecycle.state is State.SERVING
        return is_serving and len(self._running) < max(1, self._service.admission.devices)

    async def _start_next(self) -> bool:
        """Start the next job. Return False if there is none."""
        assert self._store is not None  # noqa: S101 - this task is started with the store
        loop = asyncio.get_running_loop()
        self._waiting_until = {client: end for client, end in self._waiting_until.items() if end > loop.time()}
        stored = await self._call(self._store.take_next, tuple(self._waiting_until), self._last_served)
        if stored is None:
            return False
        self._served += 1
        self._last_served[stored.client] = self._served
        record = self._service.telemetry.begin(
            "jobs", f"video {stored.id}", "render", request_id=stored.request_id, traceparent=stored.traceparent
        )
        record.key_name, record.peer = stored.owner, "" if stored.owner else stored.client
        # The record becomes that of the job and of its task.
        running = _Running(Job(loop.time() + self._timeout_s, reports_steps=True))
        self._running[stored.id] = running
        running.task = asyncio.create_task(self._run(stored, running, record))
        return True

    async def _run(self, stored: VideoJob, running: _Running, record: RequestRecord) -> None:
        """Run a job and store its outcome."""
        store = self._store
        assert store is not None  # noqa: S101 - the store is closed after this task
        error: CodecError | None = None
        try:
            map_hash = await self._generate(store, stored, running, record)
            await self._call(store.complete, stored, map_hash)
            record.completed = True
        except asyncio.CancelledError:
            error = NotReady("the server is shutting down", 1)
            await self._call(store.requeue, stored)
        except Exception as caught:
            error = to_public_error(caught)
            await self._end_failed(store, stored, error)
        finally:
            if error is not None:
                record.fail(error)
            record.status = "completed" if record.completed else error.code if error is not None else "failed"
            self._service.telemetry.end(record)
            del self._running[stored.id]
            self._changed.set()
            self._expiry_changed.set()

    async def _generate(self, store: JobStore, stored: VideoJob, running: _Running, record: RequestRecord) -> str:
        """Generate the files of a job. Return the hash of the latent-space map."""
        inputs = await self._call(store.read_inputs, stored.id)
        request = GenerationRequest.model_validate_json(stored.request, by_name=True).model_copy(update=inputs)
        planned = plan_video(self._service, request)
        map_hash = self._service.models.for_plan(planned).bundle.hash
        record.describe("render", planned, map_hash)

        def report(progress: int) -> None:
            running.progress = progress

        await generate_video(self._service, planned, running.job, store.files(stored.id), report)
        return map_hash

    async def _end_failed(self, store: JobStore, stored: VideoJob, error: CodecError) -> None:
        """Store the failure of a job, or queue the job again if the server is only busy or not ready."""
        try:
            if isinstance(error, Overloaded | NotReady):
                delay_s = min(error.retry_after_s, MAX_RETRY_S)
                loop = asyncio.get_running_loop()
                self._waiting_until[stored.client] = loop.time() + delay_s
                loop.call_later(delay_s, self._changed.set)
                await self._call(store.requeue, stored)
            else:
                await self._call(store.fail, stored, error.code, error.message, error.field)
        except OutOfStorage as failure:  # the job is still marked as running, and the next start runs it again
            log.error("the outcome of %s cannot be stored: %s", stored.id, failure)  # noqa: TRY400

    async def _expire_jobs(self) -> None:
        """Delete jobs when they expire."""
        assert self._store is not None  # noqa: S101 - this task is started with the store
        while True:
            self._expiry_changed.clear()
            seconds = _MAX_SLEEP_S
            try:
                expiry = await self._call(self._store.delete_expired)
            except CodecError as error:
                log.error("expired videos cannot be deleted: %s", error)  # noqa: TRY400
            else:
                if expiry is not None:
                    seconds = min(_MAX_SLEEP_S, max(0.1, expiry - time.time()))
            try:
                await asyncio.wait_for(self._expiry_changed.wait(), seconds)
            except TimeoutError:
                continue
