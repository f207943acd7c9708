"""Timeout, cancellation and error conversion for one call of a gateway to an upstream server."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc.aio

from codec_grpc.errors import from_rpc_error
from codec_wire.errors import Cancelled, Forbidden, NotReady, Unauthenticated
from codec_wire.grpc import MAP_HASH_KEY
from core.engine import Job
from core.lifecycle import RETRY_AFTER_S

log = logging.getLogger(__name__)


def timeout_of(job: Job) -> float | None:
    """Return the number of seconds until the deadline of `job`, or None if the job has no deadline."""
    return None if job.deadline is None else max(0.0, job.deadline - asyncio.get_running_loop().time())


@contextmanager
def upstream_call(call: Any, job: Job) -> Iterator[None]:
    """Cancel `call` when `job` is cancelled or the `with` block ends, and convert errors of the call to CodecErrors."""
    loop = asyncio.get_running_loop()

    def cancel() -> None:
        if not call.done():  # a job is also cancelled when it ends, and waking the event loop takes time
            loop.call_soon_threadsafe(call.cancel)

    job.on_cancel(cancel)
    try:
        yield
    except grpc.aio.AioRpcError as error:
        reported = from_rpc_error(error)
        if isinstance(reported, Unauthenticated | Forbidden):  # the caller cannot change the gateway's key
            log.error(  # noqa: TRY400
                "the upstream server refused the credentials of the gateway: %s; check CODEC_UPSTREAM_API_KEY", reported
            )
            raise NotReady("the upstream server refused the credentials of the gateway", RETRY_AFTER_S) from error
        if isinstance(reported, Cancelled):  # by the server: a call that the gateway cancels raises CancelledError
            raise job.reason or NotReady("the upstream server was stopped", RETRY_AFTER_S) from error
        raise reported from error
    except asyncio.CancelledError:
        # grpc.aio raises CancelledError if this task is cancelled, and also if the call is, e.g. because the channel
        # was closed. codec_client.grpc_client has the same check: the only package that both may import it from is
        # codec_wire, which must not import asyncio.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise job.reason or NotReady("the connection to the upstream server was closed", RETRY_AFTER_S) from None
    finally:
        call.cancel()


async def require_same_map(call: Any, map_hash: str) -> None:
    """Check that the latent-space map of the server of `call` has the hash `map_hash`.

    Call this function after the first message of `call`: the metadata have then been received.

    Raises NotReady if the server has another map.
    """
    served = (await call.initial_metadata()).get(MAP_HASH_KEY)
    if served is not None and served != map_hash:
        raise NotReady("the upstream server was restarted with another latent-space map", RETRY_AFTER_S)
