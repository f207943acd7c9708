"""Timeout, cancellation and error conversion for one call of a gateway to an upstream server."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
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


@asynccontextmanager
async def upstream_call(call: Any, job: Job, map_hash: str) -> AsyncGenerator[None, None]:
    """Cancel `call` when `job` is cancelled or the `with` block ends, and convert errors of the call to CodecErrors.

    If the hash of the server's latent-space map is not `map_hash`, raises NotReady before the `with` block is entered.
    """
    loop = asyncio.get_running_loop()
    job.on_cancel(lambda: loop.call_soon_threadsafe(call.cancel))
    try:
        await _require_same_map(call, map_hash)
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


async def _require_same_map(call: Any, map_hash: str) -> None:
    metadata = await call.initial_metadata()
    served = dict(metadata or ()).get(MAP_HASH_KEY)
    if served is not None and served != map_hash:
        raise NotReady("the upstream server was restarted with another latent-space map", RETRY_AFTER_S)
