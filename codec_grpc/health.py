"""grpc.health.v1, fed by the lifecycle."""

import asyncio

from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.lifecycle import Lifecycle, State

SERVICES = ("", pb.DESCRIPTOR.services_by_name["LatentService"].full_name)
"""What has a health: the server as a whole, and the one service."""


class LifecycleHealth(HealthServicer):
    """Says SERVING exactly while the lifecycle does; watchers are told of each change."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        super().__init__()
        self._tasks: set[asyncio.Task[None]] = set()
        lifecycle.subscribe(self._changed)

    def _changed(self, state: State) -> None:
        task = asyncio.ensure_future(self._announce(state))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _announce(self, state: State) -> None:
        serving = health_pb2.HealthCheckResponse.SERVING
        status = serving if state is State.SERVING else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in SERVICES:
            await self.set(service, status)
