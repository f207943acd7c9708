"""The gRPC health service grpc.health.v1, which reports the state of the server's lifecycle."""

import asyncio
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer

from codec_grpc.configuration import LATENT_SERVICE, configuration_of_service, health_service_of
from core.lifecycle import State
from core.service import LatentService

SERVICES = ("", LATENT_SERVICE)
"""Names whose health can be queried: the server as a whole, and LatentService."""


class LifecycleHealth(HealthServicer):
    """Health servicer that reports SERVING while the lifecycle state is SERVING, and notifies watchers of changes.

    While models are served, clients can also query the name that codec_grpc.configuration.health_service_of returns.
    Two servers have the same health service name only if their responses have the same bytes.
    """

    def __init__(self, service: LatentService) -> None:
        super().__init__()
        self._service = service
        self._names = list(SERVICES)
        self._tasks: set[asyncio.Task[None]] = set()
        service.lifecycle.subscribe(self._on_state_change)

    def _on_state_change(self, state: State) -> None:
        task = asyncio.ensure_future(self._publish(state))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def List(  # noqa: N802 - the name of the method of the service
        self,
        request: Any,  # noqa: ARG002
        context: Any,  # noqa: ARG002
    ) -> Any:
        """Return the health status of every service name.

        The base class HealthServicer of grpcio-health-checking does not implement the method `List`.
        """
        response = health_pb2.HealthCheckResponse(status=_health_of(self._service.lifecycle.state))
        statuses = dict.fromkeys(self._names, response)
        return health_pb2.HealthListResponse(statuses=statuses)  # type: ignore[attr-defined]  # not in the stubs

    async def _publish(self, state: State) -> None:
        configuration = configuration_of_service(self._service)
        if configuration is not None and (name := health_service_of(configuration)) not in self._names:
            self._names.append(name)
        for name in self._names:
            await self.set(name, _health_of(state))


def _health_of(state: State) -> Any:
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    return serving if state is State.SERVING else not_serving
