"""A limit on the memory that a device needs for the active jobs."""

from collections.abc import Callable
from dataclasses import dataclass

from codec_wire.errors import Overloaded, TooLarge

MIB = 2**20


@dataclass(frozen=True, slots=True)
class JobMemory:
    """Predicted memory of a job in bytes.

    A job needs at most `peak` bytes while the device works on the job, then `result` bytes until the client has read
    the result.
    """

    peak: int = 0
    result: int = 0


NO_MEMORY = JobMemory()
"""The prediction for a job whose memory is unknown.

A job whose memory is unknown is never over the limit.
"""


class WorkingMemory:
    """A limit on the predicted memory of active jobs. Requests over the limit are rejected immediately.

    The device runs one job at a time, or a batch of jobs whose peaks together are within the limit. The predicted
    memory of the active jobs is the largest peak of a job or batch plus the results of all jobs. `limit` is in bytes.
    While the models are being loaded, the limit is not set and no request is rejected. `retry_after_s` returns the
    number of seconds after which a rejected request may be sent again. This class is not thread-safe. Only the method
    `free_for_peaks` may be called from a thread other than the event loop's thread.
    """

    def __init__(self, retry_after_s: Callable[[], int]) -> None:
        self.limit: int | None = None
        self._retry_after_s = retry_after_s
        self._jobs: list[JobMemory] = []
        self._results = 0
        """Total memory in bytes that the results of all active jobs need."""

    @property
    def used(self) -> int:
        """Predicted memory of the active jobs in bytes."""
        return _total(self._jobs)

    def free_for_peaks(self) -> int | None:
        """Return the memory in bytes that the peaks of a batch may need, or None if no limit is set.

        The results of all active jobs are subtracted from the limit. This method may be called from any thread.
        """
        return None if self.limit is None else self.limit - self._results

    def add(self, job: JobMemory) -> None:
        """Count the memory of `job` until `remove` is called."""
        self._jobs.append(job)
        self._results += job.result

    def remove(self, job: JobMemory) -> None:
        """Stop counting the memory of `job`."""
        self._jobs.remove(job)
        self._results -= job.result

    def require(self, job: JobMemory) -> None:
        """Check that the memory that `job` needs is available.

        Raises TooLarge if the job alone exceeds the limit. Raises Overloaded if the job and the active jobs together
        exceed the limit. The error Overloaded contains the time to wait.
        """
        limit = self.limit
        if limit is None or job is NO_MEMORY:
            return
        alone = _total([job])
        if alone > limit:
            raise TooLarge(
                f"this request needs about {_mib(alone)} of memory, but the limit is {_mib(limit)}; request a smaller "
                "size or fewer frames"
            )
        if _total([*self._jobs, job]) > limit:
            raise Overloaded(
                f"active jobs need {_mib(self.used)} and this request needs {_mib(alone)} of memory, but the limit "
                f"is {_mib(limit)}",
                self._retry_after_s(),
            )


def _total(jobs: list[JobMemory]) -> int:
    return max((job.peak for job in jobs), default=0) + sum(job.result for job in jobs)


def _mib(size: int) -> str:
    return f"{-(-size // MIB)} MiB"
