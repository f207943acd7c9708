"""Creation, search, deletion and expiry of the video jobs of a service."""

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from codec_wire.errors import Cancelled, OutOfStorage
from codec_wire.request import GenerationRequest
from core.request_record import RequestRecord
from core.service import LatentService
from core.video_jobs.files import JobFiles
from core.video_jobs.generation import max_result_bytes, plan_video
from core.video_jobs.job import JobLimits, JobStatus, VideoJob, new_job_id
from core.video_jobs.metrics import register_job_metrics
from core.video_jobs.runner import JobRunner
from core.video_jobs.store import JobStore, job_not_found, unknown_cursor
from core.video_jobs.store_thread import StoreThread

log = logging.getLogger(__name__)

SUBFOLDER = "videos"
"""Name of the folder in CODEC_DATA_DIR that contains the store of video jobs."""
_MAX_SLEEP_S = 60.0
"""Maximum time in seconds between two checks for expired jobs.

Without regular checks, a change of the machine's clock could delay the deletion of expired jobs.
"""


class VideoJobs:
    """The video jobs of a service. The module core.video_jobs.runner runs the jobs.

    Without `data_dir`, the jobs are stored in a temporary directory. The temporary directory is created for the first
    job and deleted by `stop`. A job may run for at most `timeout_s` seconds. This class is not thread-safe: use it only
    from the event loop's thread.
    """

    def __init__(
        self, service: LatentService, timeout_s: float, limits: JobLimits | None = None, data_dir: Path | None = None
    ) -> None:
        self.limits = limits or JobLimits()
        self._service = service
        self._timeout_s = timeout_s
        self._data_dir = data_dir
        self._temporary: TemporaryDirectory[str] | None = None
        self._thread = StoreThread()
        self._store: JobStore | None = None
        self._runner: JobRunner | None = None
        self._opening = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        register_job_metrics(service.telemetry.metrics.registry, self.usage)

    def usage(self) -> Mapping[JobStatus, tuple[int, int]]:
        """Return the number of stored jobs and the total size of stored jobs in bytes, separately for each status."""
        return {} if self._store is None else self._store.usage

    async def start(self) -> None:
        """Open the store in `data_dir` and begin to run the stored jobs. Without `data_dir`, do nothing.

        Raises InvalidSettings if the directory cannot be used.
        """
        if self._data_dir is not None:
            await self._open()

    async def require_place(self, client: str) -> None:
        """Raise Overloaded if `client` cannot store another job.

        Call this method before any other work for the request.
        """
        if self._store is not None:
            await self._thread.call(self._store.require_place, client)

    async def create(self, request: GenerationRequest, record: RequestRecord) -> VideoJob:
        """Store and queue a job for `request`. `record` is the record of the HTTP request that contained `request`.

        Raises the errors of plan_video. Raises Overloaded or TooLarge if there is not enough space. Raises OutOfStorage
        if the job cannot be stored.
        """
        planned = plan_video(self._service, request)
        inputs = {name: value for name, value in request if isinstance(value, bytes)}
        # The model is fixed now, so that a job that is run again has the same result.
        fixed = request.model_copy(update={"model": planned.model})
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
        store, runner = await self._open()
        stored = await self._thread.call(store.add, job, inputs)
        runner.wake()
        return stored

    async def get(self, job_id: str, owner: str | None) -> VideoJob:
        """Return a job of `owner`. Raises NotFound if the job does not exist."""
        if self._store is None:
            raise job_not_found(job_id)
        return await self._thread.call(self._store.get, job_id, owner)

    async def page(
        self, owner: str | None, after: str | None, limit: int, *, ascending: bool
    ) -> tuple[list[VideoJob], bool]:
        """Return up to `limit` jobs of `owner` after the job `after`, and whether more jobs follow.

        Raises InvalidRequest if `owner` has no job `after`.
        """
        if self._store is None:
            if after is not None:
                raise unknown_cursor(after)
            return [], False
        return await self._thread.call(self._store.page, owner, after, limit, ascending=ascending)

    async def delete(self, job_id: str, owner: str | None) -> None:
        """Delete a job of `owner` and the files of the job.

        A running job is cancelled. Raises NotFound if the job does not exist.
        """
        if self._store is None or self._runner is None:
            raise job_not_found(job_id)
        await self._thread.call(self._store.delete, job_id, owner)
        self._runner.cancel(job_id, Cancelled("the video was deleted"))

    def progress(self, job: VideoJob) -> int:
        """Return the progress of `job` in percent."""
        running = None if self._runner is None else self._runner.progress(job.id)
        if running is not None and job.status is JobStatus.IN_PROGRESS:
            return running
        return 100 if job.status is JobStatus.COMPLETED else 0

    def files(self, job: VideoJob) -> JobFiles:
        """Return the files of `job`. Raises NotFound if no job is stored."""
        if self._store is None:
            raise job_not_found(job.id)
        return self._store.files(job.id)

    async def stop(self) -> None:
        """Stop the jobs and close the store. Jobs that have not ended are run after the next start of the server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._store is not None:
            await self._thread.call(self._store.close)
            self._store = None
        self._thread.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    async def _open(self) -> tuple[JobStore, JobRunner]:
        """Return the store and the runner of the video jobs.

        If the store is not open, open the store and begin to run the stored jobs.
        """
        async with self._opening:
            if self._store is None or self._runner is None:
                folder = self._data_dir or self._temporary_folder()
                store = await self._thread.call(JobStore, folder / SUBFOLDER, self.limits)
                runner = JobRunner(self._service, store, self._thread, self._timeout_s)
                self._store, self._runner = store, runner
                self._tasks = [asyncio.create_task(runner.run()), asyncio.create_task(self._expire(store, runner))]
            return self._store, self._runner

    def _temporary_folder(self) -> Path:
        try:
            self._temporary = TemporaryDirectory(prefix="codec-diffusers-")
        except OSError as error:
            raise OutOfStorage(
                f"no temporary directory for video jobs can be created ({error.strerror}): set CODEC_DATA_DIR "
                "(--data-dir) to a directory in which the server may write"
            ) from None
        log.info(
            "video jobs are stored in %s until the server stops; set CODEC_DATA_DIR to keep them", self._temporary.name
        )
        return Path(self._temporary.name)

    async def _expire(self, store: JobStore, runner: JobRunner) -> None:
        """Delete jobs when they expire, until this method is cancelled."""
        while True:
            runner.ended.clear()
            seconds = _MAX_SLEEP_S
            try:
                expiry = await self._thread.call(store.delete_expired)
            except OutOfStorage as error:
                log.error("expired videos cannot be deleted: %s", error)  # noqa: TRY400
            else:
                if expiry is not None:
                    seconds = min(_MAX_SLEEP_S, max(0.1, expiry - time.time()))
            try:
                await asyncio.wait_for(runner.ended.wait(), seconds)
            except TimeoutError:
                continue
