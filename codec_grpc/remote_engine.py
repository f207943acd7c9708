"""The engine of a gateway. It generates on a remote gRPC server."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import grpc.aio

from codec_grpc.errors import from_rpc_error
from codec_grpc.messages import plan_to_message
from codec_wire.errors import NotReady
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import MAP_HASH_KEY, event_from_message
from core.engine import Event, Job
from core.lifecycle import RETRY_AFTER_S
from core.plan import StreamPlan

if TYPE_CHECKING:  # the generated module defines the class only in its type stubs
    from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceAsyncStub


class RemoteEngine:
    """Engine that generates on the server of `stub`.

    `map_hash` is the hash of that server's latent-space map when its models were loaded.
    """

    def __init__(self, stub: "LatentServiceAsyncStub", map_hash: str) -> None:
        self._stub = stub
        self._map_hash = map_hash

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield the events of the remote server as they are received. See core.engine.Engine."""
        loop = asyncio.get_running_loop()
        timeout = None if job.deadline is None else max(0.0, job.deadline - loop.time())
        call = self._stub.Generate(plan_to_message(plan, progress=True), timeout=timeout)
        job.on_cancel(lambda: loop.call_soon_threadsafe(call.cancel))
        try:
            await self._require_same_map(call)
            async for message in call:
                event = event_from_message(message)
                if event is not None:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        except asyncio.CancelledError:
            # grpc.aio raises CancelledError both if this task is cancelled and if the call is, e.g. because the channel
            # was closed. codec_client.grpc_client has the same check: the only package that both may import it from is
            # codec_wire, which must not import asyncio.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise job.reason or NotReady("the connection to the upstream server was closed", RETRY_AFTER_S) from None
        finally:
            call.cancel()

    async def _require_same_map(self, call: grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateResponse]) -> None:
        metadata = await call.initial_metadata()
        served = dict(metadata or ()).get(MAP_HASH_KEY)
        if served is not None and served != self._map_hash:
            raise NotReady("the upstream server was restarted with another latent-space map", RETRY_AFTER_S)
