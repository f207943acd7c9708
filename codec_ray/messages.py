"""Messages between the server and its Ray Serve replicas, pickled by Ray."""

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
        """Return the job that the replica runs.

        The job's request record becomes the current record of the running asyncio task.
        """
        record = RequestRecord("ray", "", None, self.request_id)
        record.peer, record.traceparent = self.client, self.traceparent
        set_current_record(record)
        deadline = None if self.timeout_s is None else asyncio.get_running_loop().time() + self.timeout_s
        return Job(deadline, reports_steps=self.reports_steps)


@dataclass(frozen=True, slots=True)
class JobResult:
    """Outcome of a job on a replica, with the measurements that the server adds to the request record.

    `error` has the value None if the job succeeded.
    """

    error: CodecError | None
    steps: int
    sampling_s: float
    encode_s: float
    batch_size: int = 0


@dataclass(frozen=True, slots=True)
class Part(Generic[ItemT]):
    """One message that a replica sends during a call, with the next items of the replica's output.

    Only the last message of a call has a `result`. An error is sent as a value in the result, because Ray would wrap a
    raised error in another class.
    """

    items: tuple[ItemT, ...]
    result: JobResult | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Description of a model on a replica.

    `instance` has no engines; the other fields state which engines the replica has.
    """

    instance: ModelInstance
    generates: bool
    decodes: bool
    decodes_tensors: bool


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """The models of a replica and the versions of the replica's libraries.

    The first model is the default model. Replicas with the same `version` have the same models, settings and libraries.
    During an update, a deployment has replicas of two versions.
    """

    version: str
    models: tuple[ServedModel, ...]
    provenance: Provenance
