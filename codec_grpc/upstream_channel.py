"""Channels of a gateway to its upstream servers. gRPC balances the calls and checks the health of the servers."""

import asyncio
import json
from collections.abc import Callable, Sequence

import grpc
import grpc.aio

from codec_grpc.upstream_addresses import channel_target
from codec_wire.grpc import CHANNEL_OPTIONS

_LAST_CALLS_S = 24 * 3600.0
"""Maximum time in seconds until a replaced channel is closed.

The calls that are still active when the replaced channel is closed are cancelled.
"""
_NO_IDLE_TIMEOUT = ("grpc.client_idle_timeout_ms", 2**31 - 1)
"""Channel option that keeps a channel without calls connected.

By default, gRPC disconnects a channel after 30 minutes without calls. A disconnected channel does not report the state
of the servers.
"""


def upstream_channel(
    addresses: Sequence[str],
    authority: str,
    credentials: grpc.ChannelCredentials | None = None,
    *,
    health_service: str | None = None,
) -> grpc.aio.Channel:
    """Return a channel to the servers at `addresses` (IP:PORT), with TLS if `credentials` is not None.

    `authority` is the name HOST:PORT for which the certificates must be valid. If `health_service` is not None, calls
    are sent in turn to the servers that report the service `health_service` as SERVING. Closing the channel cancels all
    active calls of the channel.
    """
    options = [*CHANNEL_OPTIONS, _NO_IDLE_TIMEOUT, ("grpc.default_authority", authority)]
    if health_service is not None:
        # No outlier detection: gRPC would count calls that clients cancel as failures of the server.
        config = {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": health_service},
        }
        options.append(("grpc.service_config", json.dumps(config)))
    target = channel_target(addresses)
    if credentials is not None:
        return grpc.aio.secure_channel(target, credentials, options=options)
    return grpc.aio.insecure_channel(target, options=options)


class CurrentChannel:
    """Holder of the channel for new calls.

    A replaced channel is closed when its calls have ended. `on_change` is called with True if calls can be sent, and
    with False otherwise. `on_change` is called for the first time when a channel is set, and again after every change.
    """

    def __init__(self, on_change: Callable[[bool], object]) -> None:
        self._on_change = on_change
        self._channel: grpc.aio.Channel | None = None
        self._state_task: asyncio.Task[None] | None = None
        self._replaced: dict[asyncio.Task[None], grpc.aio.Channel] = {}

    def replace(self, channel: grpc.aio.Channel) -> None:
        """Use `channel` for new calls. `channel` must already be connected to a server."""
        if self._state_task is not None:
            self._state_task.cancel()
        if self._channel is not None:
            task = asyncio.create_task(self._channel.close(_LAST_CALLS_S))
            self._replaced[task] = self._channel
            task.add_done_callback(self._replaced.pop)
        self._channel = channel
        self._state_task = asyncio.create_task(self._follow_state(channel))

    async def close(self) -> None:
        """Close all channels, and cancel their active calls."""
        if self._state_task is not None:
            self._state_task.cancel()
        if self._channel is not None:
            await self._channel.close()
        for task, channel in list(self._replaced.items()):
            await channel.close()
            await task

    async def _follow_state(self, channel: grpc.aio.Channel) -> None:
        while True:
            state = channel.get_state(try_to_connect=True)
            self._on_change(state is grpc.ChannelConnectivity.READY)
            await channel.wait_for_state_change(state)
