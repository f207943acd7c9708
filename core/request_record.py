"""The record of one request: the client, the parameters, the duration of each part of the request, and the outcome.

The HTTP and gRPC servers begin a record (core.telemetry) and add the values that depend on the protocol. The package
`core` adds all other values of the record. Code that runs for a request gets the record from `current_record`, so the
record is not passed as an argument.
"""

from contextvars import ContextVar
from math import prod
from random import Random
from re import compile as compile_pattern
from time import perf_counter, time_ns
from typing import Protocol

from codec_wire.errors import INTERNAL_TEXT, Cancelled, CodecError
from codec_wire.events import Frame, Started, StreamEvent
from codec_wire.latents import LatentStreamHeader, Modality

OK = "ok"
"""Outcome of a request without an error. All other outcomes are error codes."""
_REQUEST_ID = compile_pattern(r"[A-Za-z0-9._:/+=@-]{1,128}")
_RAW_BYTES_PER_VALUE = 2
_ids = Random()  # noqa: S311 - request ids are not secret
"""Generator of request ids, with a seed from the operating system.

Reading a new random number from the operating system for each id would release the interpreter lock.
"""


class Described(Protocol):
    """Attributes that StreamPlan, DecodePlan and EncodePlan have in common."""

    @property
    def model(self) -> str:
        """Name of the served model."""

    @property
    def modality(self) -> Modality:
        """Modality of the latents."""

    @property
    def header(self) -> LatentStreamHeader:
        """Header of the latent stream."""


class RequestRecord:
    """The record of one request.

    Times are values of `time.perf_counter` in seconds. An attribute for the time of an event has the value None until
    the event has occurred.

    This class is not thread-safe. The device thread may set only attributes that are times. The event loop reads a time
    only after the device thread has set the time.
    """

    __slots__ = (
        "admitted_at",
        "batch_size",
        "bytes_out",
        "coding",
        "completed",
        "encode_s",
        "ended_at",
        "error",
        "first_frame_at",
        "frame_values",
        "frames",
        "header_at",
        "key_name",
        "map_hash",
        "modality",
        "model",
        "operation",
        "outcome",
        "peer",
        "pipeline",
        "planned_at",
        "protocol",
        "request_id",
        "sampling_at",
        "sampling_s",
        "started_at",
        "started_ns",
        "status",
        "steps",
        "target",
        "traceparent",
    )

    def __init__(self, protocol: str, target: str, operation: str | None, request_id: str | None) -> None:
        self.protocol = protocol
        self.target = target
        """Method and path of an HTTP request, or name of a gRPC method."""
        self.operation = operation
        """Name of the operation, such as "generate", "render" or "decode".

        `operation` has the value None if the request does not run a model.
        """
        self.request_id = request_id if request_id and _REQUEST_ID.fullmatch(request_id) else _new_id()
        self.started_at = perf_counter()
        self.started_ns = time_ns()
        """Time at which the request started, in nanoseconds since 1970."""
        self.status = ""
        """HTTP status code of the response, or name of the gRPC status."""
        self.outcome = OK
        self.error: str | None = None
        self.completed = False
        """Whether the last frame of the latent stream was sent.

        If the client disconnects after the last frame was sent, the request does not count as cancelled.
        """
        self.key_name: str | None = None
        self.traceparent: str | None = None
        """Trace context of this request that is sent to other servers.

        The value is the context of this request's span if traces are exported, otherwise the context that the client
        sent.
        """
        self.peer = ""
        """IP address of the client, or an empty string if the address is unknown."""
        self.model: str | None = None
        self.modality: str | None = None
        """Modality of the latents, which is "image" or "video"."""
        self.pipeline: str | None = None
        """Encoding pipeline of the latents that are sent or received, or None if the request has no latents."""
        self.coding: str | None = None
        self.map_hash: str | None = None
        self.bytes_out = 0
        """Number of bytes of response bodies or messages, before encryption and without HTTP headers."""
        self.frames = 0
        """Number of latent frames that were sent."""
        self.frame_values = 0
        """Number of latent values in one latent frame."""
        self.steps = 0
        """Number of sampling steps that were completed."""
        self.batch_size = 0
        """Size of the batch in which the last generation of the request was sampled.

        The size is 0 before the model starts to work for this request. The size of the batch is also 0 if another
        process runs the model and does not report the size.
        """
        self.sampling_s = 0.0
        self.encode_s = 0.0
        self.planned_at: float | None = None
        self.admitted_at: float | None = None
        self.sampling_at: float | None = None
        """Time at which the model started to work for this request."""
        self.header_at: float | None = None
        self.first_frame_at: float | None = None
        self.ended_at: float | None = None

    @property
    def client(self) -> str:
        """The name of the client's API key, or the client's IP address if the client sent no key.

        The limits for one client use this value to distinguish clients.
        """
        return self.key_name or self.peer

    def describe(self, operation: str, plan: Described, map_hash: str) -> None:
        """Record the operation, the attributes of `plan`, and the hash of the latent-space map."""
        self.operation = operation
        self.describe_model(plan.model, plan.modality)
        self.map_hash = map_hash
        self.pipeline = plan.header.pipeline
        self.frame_values = prod(plan.header.shape)

    def describe_model(self, model: str, modality: Modality) -> None:
        """Record the model and the modality of a request, and the current time as the time of planning."""
        self.model = model
        self.modality = modality.removesuffix("-latents")
        self.planned_at = perf_counter()

    def record_admission(self) -> None:
        """Record that the request was admitted."""
        self.admitted_at = perf_counter()

    def record_sampling(self) -> float:
        """Record that the model starts to work for this request now, and return the current time."""
        now = perf_counter()
        if self.sampling_at is None:
            self.sampling_at = now
        return now

    def record_event(self, event: StreamEvent) -> None:
        """Record an event of a latent stream. Call this method before the event is sent."""
        if isinstance(event, Started):
            self.header_at = perf_counter()
            if self.sampling_at is None:  # the model is in another process
                self.sampling_at = self.header_at
        elif isinstance(event, Frame):
            self.frames += 1
            if self.first_frame_at is None:
                self.first_frame_at = perf_counter()

    def fail(self, error: BaseException) -> None:
        """Record that the request failed. Only the first error of a request is recorded."""
        if isinstance(error, CodecError):
            self.fail_with(error.code, error.message)
        else:
            self.fail_with(CodecError.code, INTERNAL_TEXT)

    def fail_with(self, code: str, message: str) -> None:
        """Record that the request failed with the error `code`. Only the first error of a request is recorded."""
        if self.outcome == OK and not (self.completed and code == Cancelled.code):
            self.outcome = code
            self.error = message

    def end(self) -> None:
        """Record that the request has ended."""
        self.ended_at = perf_counter()

    @property
    def raw_bytes(self) -> int:
        """Size in bytes that the sent latents would have as uncompressed fp16 values."""
        return self.frames * self.frame_values * _RAW_BYTES_PER_VALUE

    def seconds_to(self, time: float | None) -> float | None:
        """Return the seconds from the start of the request to the time `time`, or None if `time` is None."""
        return None if time is None else time - self.started_at

    @property
    def queue_s(self) -> float | None:
        """Seconds from admission until the model started to work, or None if the model has not started to work."""
        if self.admitted_at is None or self.sampling_at is None:
            return None
        return max(0.0, self.sampling_at - self.admitted_at)


def _new_id() -> str:
    """Return a random id of 32 hexadecimal digits."""
    return f"{_ids.getrandbits(128):032x}"


_current: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)


def current_record() -> RequestRecord:
    """Return the record of the request that the running task serves, or a new record if the task serves no request."""
    return _current.get() or RequestRecord("", "", None, None)


def find_current_record() -> RequestRecord | None:
    """Return the record of the request that the running task serves, or None if the task serves no request."""
    return _current.get()


def set_current_record(record: RequestRecord) -> None:
    """Make `current_record` return `record` in the running task and in tasks that the running task creates."""
    _current.set(record)
