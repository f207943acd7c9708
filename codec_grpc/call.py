"""One call of LatentService, independent of which gRPC server received the call.

A gRPC method receives one type of context from the server of this package, and another type from the gRPC proxy of Ray
Serve.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol, TypeAlias

from codec_wire.grpc import BATCH_SIZE_KEY, MAP_HASH_KEY, MAP_PIN_KEY, REQUEST_ID_KEY
from codec_wire.maps import parse_map_pin
from core.deadline import Deadline
from core.engine import Job
from core.request_record import RequestRecord

Metadata: TypeAlias = tuple[tuple[str, str], ...]


class Context(Protocol):
    """Methods of a gRPC call context that exist both in this package's server and in the gRPC proxy of Ray Serve."""

    def invocation_metadata(self) -> Any:
        """Return the metadata that the client sent."""

    def peer(self) -> str:
        """Return the address of the client, for example "ipv4:127.0.0.1:50051"."""


class Call:
    """The request metadata and the response metadata of one gRPC call.

    The called gRPC method must set `response_metadata` before the method yields the first message.
    """

    def __init__(self, context: Context) -> None:
        self._received = dict(context.invocation_metadata() or ())
        self.response_metadata: Metadata = ()

    def received(self, key: str) -> str | None:
        """Return the metadata value that the client sent for `key`.

        Return None if the client sent no value for `key`, or sent a value of type bytes.
        """
        value = self._received.get(key)
        return value if isinstance(value, str) else None

    @property
    def map_pin(self) -> str | None:
        """The hash of the latent-space map that the client requires, or None if the client requires no map.

        Raises InvalidRequest if the value that the client sent does not contain a hash in a valid form.
        """
        pin = self._received.get(MAP_PIN_KEY)
        return parse_map_pin(None if pin is None else str(pin))


async def send_messages(messages: AsyncGenerator[Any, None], call: Call, context: Any, job: Job) -> None:
    """Send the response metadata and `messages` through `context`, but stop at the deadline of `job`.

    The messages are sent with context.write(), so that a cancellation is raised in this function even while a message
    is being sent. After a cancellation, `messages` is closed immediately.
    """
    is_first = True
    # A client that does not read must not keep the job active after the deadline.
    async with aclosing(messages):
        deadline = Deadline(job)
        try:
            async for message in messages:
                if is_first:
                    # Not before: proxies and retry policies repeat only calls that have no response headers yet.
                    await context.send_initial_metadata(call.response_metadata)
                    is_first = False
                with deadline:
                    await context.write(message)
        finally:
            deadline.close()


def job_deadline(timeout_s: float, remaining_s: float | None = None) -> float:
    """Return the time by which a job must end: now plus the smaller of `timeout_s` and `remaining_s`.

    `timeout_s` is the time that the server allows. `remaining_s` is the time that the client waits, or None if the
    client sets no limit.
    """
    return asyncio.get_running_loop().time() + (timeout_s if remaining_s is None else min(remaining_s, timeout_s))


def peer_address(peer: str) -> str:
    """Return the IP address in `peer`, for example in "ipv4:127.0.0.1:50051" or "ipv6:%5B::1%5D:50051"."""
    return peer.rpartition(":")[0].partition(":")[2].removeprefix("%5B").removesuffix("%5D")


def trailing_metadata(record: RequestRecord) -> Metadata:
    """Return the trailing metadata that is sent at the end of every call."""
    metadata = [(REQUEST_ID_KEY, record.request_id)]
    if record.map_hash is not None:
        metadata.append((MAP_HASH_KEY, record.map_hash))
    if record.batch_size:
        metadata.append((BATCH_SIZE_KEY, str(record.batch_size)))
    return tuple(metadata)
