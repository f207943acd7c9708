"""State and description of one upstream server of a gateway."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub

log = logging.getLogger(__name__)

RETRY_INTERVAL_S = 1.0
RPC_TIMEOUT_S = 10.0


class UpstreamServer:
    """Watcher that uses `channel` to read the health and the description of the upstream server at `address`.

    The description is read while the server is serving. `changed` is called whenever the description changes.
    """

    def __init__(self, address: str, channel: grpc.aio.Channel, changed: Callable[[], None]) -> None:
        self.address = address
        self.stub = LatentServiceStub(channel)
        self.info: pb.GetServerInfoResponse | None = None
        """The description of the server, or None if the server is not serving."""
        self._channel = channel
        self._changed = changed
        self._logged_reason: str | None = None
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop watching the server, and close the channel."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def _follow(self) -> None:
        """Watch the health of the server. If the connection is lost, connect again."""
        while True:
            try:
                await self._watch()
                reason = "the server has ended the health check"
            except grpc.aio.AioRpcError as error:
                reason = error.details() or error.code().name
            except Exception:  # an unexpected response must not stop the gateway
                log.exception("the upstream server %s returned an invalid response", self.address)
                reason = "the response of the server is invalid"
            self._describe(None, reason)
            await asyncio.sleep(RETRY_INTERVAL_S)

    async def _watch(self) -> None:
        """Read the description of the server each time the server becomes healthy.

        The method returns when the server ends the health check.
        """
        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        async for health in stub.Watch(health_pb2.HealthCheckRequest()):
            info = None
            if health.status == health_pb2.HealthCheckResponse.SERVING:
                info = await self.stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=RPC_TIMEOUT_S)
                if info.state != pb.SERVER_STATE_SERVING:  # it has changed meanwhile, which is reported next
                    info = None
            self._describe(info, "the server is not serving")

    def _describe(self, info: pb.GetServerInfoResponse | None, reason: str) -> None:
        if info is None and reason != self._logged_reason:
            log.warning("waiting for the upstream server %s: %s", self.address, reason)
        self._logged_reason = None if info is not None else reason
        self.info = info
        self._changed()
