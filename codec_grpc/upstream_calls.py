"""Calls that a gateway sends to its upstream servers to run models.

A call that fails before its first response is repeated on another server.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio

from codec_grpc.upstream_call import require_same_map, timeout_of, upstream_call
from codec_grpc.upstream_metrics import UpstreamMetrics
from codec_wire.errors import NotReady, Overloaded
from codec_wire.events import StreamEvent
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.grpc import BATCH_SIZE_KEY, REQUEST_ID_KEY, event_from_bytes
from codec_wire.trace_context import TRACEPARENT_HEADER
from core.engine import Job
from core.lifecycle import RETRY_AFTER_S
from core.request_record import find_current_record

if TYPE_CHECKING:  # the generated module defines the class only in its type stubs
    from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceAsyncStub

ResultT = TypeVar("ResultT")

_GENERATE_PATH = f"/{pb.DESCRIPTOR.services_by_name['LatentService'].full_name}/Generate"
_DELAYS_S = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Maximum delays in seconds before the first and each further repetition of a call whose server was not ready.

During the delay, a health check usually excludes the server that was not ready, so that the repeated call goes to
another server.
"""


class UpstreamCalls:
    """Sender of calls to the streaming methods of LatentService on the upstream servers.

    `metrics` counts repeated calls.

    `api_key` is the gateway's own key for its upstream servers.
    """

    def __init__(self, metrics: UpstreamMetrics, api_key: str | None = None) -> None:
        self._metrics = metrics
        self._api_key = api_key
        self._stub: LatentServiceAsyncStub | None = None
        """The methods of the servers. The response messages of Generate are not parsed."""
        self._servers = 0

    def use(self, channel: grpc.aio.Channel, servers: int) -> None:
        """Use `channel` for all calls that start from now on.

        `servers` is the number of upstream servers to which `channel` connects.
        """
        self._stub, self._servers = LatentServiceStub(channel), servers
        self._stub.Generate = channel.unary_stream(_GENERATE_PATH, pb.GenerateRequest.SerializeToString)

    def generate(self, request: pb.GenerateRequest, job: Job, map_hash: str) -> AsyncGenerator[StreamEvent, None]:
        """Yield the events of the method Generate. See `messages`.

        The messages are not parsed by the protobuf library, which would copy the data of a frame twice.
        """
        return self._results("Generate", lambda: request, job, map_hash, event_from_bytes)

    def messages(
        self, method: str, make_request: Callable[[], Any], job: Job, map_hash: str
    ) -> AsyncGenerator[Any, None]:
        """Yield the response messages of `method`, from a server whose latent-space map has the hash `map_hash`.

        For the method Generate, use `generate` instead. `make_request` returns the request, or an asynchronous iterator
        of requests. A failed call is repeated only if there are several servers and the call has received no response
        message. A call is repeated only if the server of the call is overloaded, disconnected or not ready. Raises a
        CodecError if the last call fails. If the last server asked for a retry delay, the raised error contains this
        delay.
        """
        return self._results(method, make_request, job, map_hash, lambda message: message)

    async def _results(
        self,
        method: str,
        make_request: Callable[[], Any],
        job: Job,
        map_hash: str,
        convert: Callable[[Any], ResultT | None],
    ) -> AsyncGenerator[ResultT, None]:
        """Yield the results of `convert` for the response messages of `method`, except None. See `messages`."""
        repetitions = _Repetitions(self._servers)
        while True:
            has_response = False
            call = self._start(method, make_request(), job)
            try:
                with upstream_call(call, job):
                    async for message in call:
                        if not has_response:
                            await require_same_map(call, map_hash)
                            has_response = True
                        result = convert(message)
                        if result is not None:
                            yield result
                    job.record.batch_size = await _batch_size(call)
            except (NotReady, Overloaded) as error:
                delay_s = None if has_response or job.reason is not None else repetitions.delay_s(error)
                if delay_s is None:
                    raise
                self._metrics.count_repeated(error)
            else:
                return
            await asyncio.sleep(delay_s)
            if job.reason is not None:
                raise job.reason

    def _start(self, method: str, request: Any, job: Job) -> Any:
        """Start a call of the gRPC method `method`.

        The metadata of the call contain the API key of the gateway, the id of the request, and the trace of the
        request.
        """
        if self._stub is None:
            raise NotReady("no upstream server has been ready at any time since the gateway was started", RETRY_AFTER_S)
        metadata = grpc.aio.Metadata()  # grpc.aio would check and convert a list, which takes longer
        if self._api_key is not None:
            metadata.add("authorization", f"Bearer {self._api_key}")
        record = find_current_record()
        if record is not None:  # the call is part of a request
            metadata.add(REQUEST_ID_KEY, record.request_id)
            if record.traceparent is not None:
                metadata.add(TRACEPARENT_HEADER, record.traceparent)
        return getattr(self._stub, method)(request, metadata=metadata, timeout=timeout_of(job))


async def _batch_size(call: Any) -> int:
    """Return the number of generations that the server sampled together in `call`, or 0 if unknown."""
    size = (await call.trailing_metadata()).get(BATCH_SIZE_KEY, "")
    return int(size) if isinstance(size, str) and size.isdecimal() else 0


class _Repetitions:
    """Rules for whether and when a failed call is repeated. `servers` is the number of upstream servers.

    The delay that a server asks for is ignored, because a repeated call goes to another server. A call that fails
    because a server is overloaded is repeated at most as many times as there are other servers.
    """

    def __init__(self, servers: int) -> None:
        self._others = servers - 1
        self._delays = iter(_DELAYS_S if self._others else ())

    def delay_s(self, error: NotReady | Overloaded) -> float | None:
        """Return the seconds to wait before a call that failed with `error` is repeated.

        Return None if the call is not repeated.
        """
        if isinstance(error, Overloaded):
            self._others -= 1
            return 0.0 if self._others >= 0 else None
        longest = next(self._delays, None)
        return None if longest is None else random.uniform(longest / 2, longest)  # noqa: S311 - not a secret
