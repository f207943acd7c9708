"""The engine of a gateway. It generates on a remote gRPC server."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from codec_grpc.messages import plan_to_message
from codec_grpc.upstream_call import timeout_of, upstream_call
from codec_wire.grpc import event_from_message
from core.engine import Event, Job
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
        call = self._stub.Generate(plan_to_message(plan, progress=job.reports_steps), timeout=timeout_of(job))
        async with upstream_call(call, job, self._map_hash):
            async for message in call:
                event = event_from_message(message)
                if event is not None:
                    yield event
