"""What the front process and the replicas send to each other, pickled by Ray."""

import asyncio
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from codec_wire.errors import CodecError
from core.engine import Job
from core.pins import Provenance
from core.request_record import RequestRecord, set_current_record
from core.served import ModelInstance

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """The parts of a job that a replica needs.

    `timeout_s` is the number of seconds until the deadline of the job, or None if the job has no deadline. `version` is
    the version of the replicas for which the job was planned. See ReplicaInfo.
    """

    version: str
    timeout_s: float | None
    reports_steps: bool
    client: str
    request_id: str
    traceparent: str | None

    @classmethod
    def of(cls, job: Job, version: str) -> Self:
        """Return the request for `job`. Call this method on the event loop of the job."""
        timeout_s = None if job.deadline is None else max(0.0, job.deadline - asyncio.get_running_loop().time())
        record = job.record
        return cls(version, timeout_s, job.reports_steps, record.client, record.request_id, record.traceparent)

    def to_job(self) -> Job:
        """Return the job for the engine of a replica, and make its record the current one of the running task."""
        record = RequestRecord("ray", "", None, self.request_id)
        record.peer, record.traceparent = self.client, self.traceparent
        set_current_record(record)
        deadline = None if self.timeout_s is None else asyncio.get_running_loop().time() + self.timeout_s
        return Job(deadline, reports_steps=self.reports_steps)


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended on a replica, and the values that the front process adds to the record of the request.

    `error` is None if the job succeeded.
    """

    error: CodecError | None
    steps: int
    sampling_s: float
    encode_s: float
    batch_size: int = 0


@dataclass(frozen=True, slots=True)
class Part(Generic[ItemT]):
    """The next items of a call. The last part of every call has a `result`.

    An error is sent as a value in the result, because Ray would wrap a raised error in another class.
    """

    items: tuple[ItemT, ...]
    result: JobResult | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The description of a model of a replica: `instance` without its engines, and which engines the replica has."""

    instance: ModelInstance
    generates: bool
    decodes: bool
    decodes_tensors: bool


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """The models of a replica, the default model first, and the versions of its libraries.

    Replicas with the same `version` have the same models, settings and libraries. A deployment that is updated has
    replicas of two versions meanwhile.
    """

    version: str
    models: tuple[ServedModel, ...]
    provenance: Provenance
