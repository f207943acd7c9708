"""Connection of a gateway to its upstream servers, and selection of the servers to use and the models to serve."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from codec_grpc.configuration import configuration_of, differences, health_service
from codec_grpc.upstream_addresses import UpstreamAddresses
from codec_grpc.upstream_calls import UpstreamCalls
from codec_grpc.upstream_channel import CurrentChannel, upstream_channel
from codec_grpc.upstream_metrics import UpstreamMetrics
from codec_grpc.upstream_models import load_models
from codec_grpc.upstream_server import UpstreamServer
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.lifecycle import State
from core.pins import Provenance
from core.service import LatentService

log = logging.getLogger(__name__)

RESOLVE_INTERVAL_S = 5.0
"""Interval in seconds at which host names are resolved again."""
RETRY_INTERVAL_S = 1.0
CONNECT_TIMEOUT_S = 5.0


class Upstream:
    """Connection of a gateway to its upstream servers.

    `servers` contains the address HOST:PORT of each upstream server. The class `Upstream` updates the models and the
    lifecycle state of `service` when the upstream servers change, start or stop.

    All calls go to servers whose responses have the same bytes. If the responses of the servers differ, only the
    largest group of servers with equal responses is used. `credentials` are the TLS credentials, or None for
    connections without TLS. `api_key` is the API key that the gateway sends to its upstream servers. The API keys that
    clients send to the gateway are not forwarded. At the end of an `async with` block, `Upstream` closes the connection
    and cancels active calls.
    """

    def __init__(
        self,
        service: LatentService,
        servers: Sequence[str],
        credentials: grpc.ChannelCredentials | None = None,
        api_key: str | None = None,
    ) -> None:
        self._service = service
        self._addresses = UpstreamAddresses(servers)
        self._credentials = credentials
        self._metrics = UpstreamMetrics(service.telemetry.metrics.registry)
        self._calls = UpstreamCalls(self._metrics, api_key)
        self._channel = CurrentChannel(self._set_serving)
        self._servers: dict[str, UpstreamServer] = {}
        self._changed = asyncio.Event()
        self._configuration: str | None = None
        """Configuration of the servers that are used, or None until a server is serving for the first time."""
        self._used: tuple[str, ...] = ()
        """Addresses of the servers to which the channel is connected."""
        self._refused: dict[str, str] = {}
        """Configuration of each server that is not used, keyed by the address of the server."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def follow(self) -> None:
        """Load the models as soon as a server is serving, and update the models when servers change, start or stop.

        The method `follow` runs until its task is cancelled.
        """
        try:
            while True:
                self._changed.clear()
                if not await self._try_to_update():
                    await asyncio.sleep(RETRY_INTERVAL_S)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(RESOLVE_INTERVAL_S):
                        await self._changed.wait()
        finally:
            await asyncio.gather(*(server.close() for server in self._servers.values()))

    async def _try_to_update(self) -> bool:
        """Use the servers that are serving now, and return True. If an error occurs, log the error and return False."""
        try:
            await self._follow_servers()
            await self._use_servers()
        except TimeoutError:
            log.warning("cannot connect to the upstream servers within %g s", CONNECT_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            log.warning("cannot load the models of the upstream servers: %s", error.details() or error.code().name)
        except Exception:  # an unexpected response must not stop the gateway
            log.exception("cannot load the models of the upstream servers")
        else:
            return True
        return False

    async def _follow_servers(self) -> None:
        """Watch the servers at all current addresses, and stop watching all other servers."""
        addresses = await self._addresses.resolve()
        for address in set(self._servers).difference(addresses):
            await self._servers.pop(address).close()
            self._refused.pop(address, None)
        for address in addresses:
            if address not in self._servers:
                channel = upstream_channel([address], self._addresses.authority, self._credentials)
                self._servers[address] = UpstreamServer(address, channel, self._changed.set)

    async def _use_servers(self) -> None:
        """Choose the most common configuration, and connect to the servers that have this configuration.

        The channel also contains servers that are not serving now, unless their last known configuration differs from
        the chosen configuration.
        """
        serving = {address: info for address, server in self._servers.items() if (info := server.info) is not None}
        configurations = {address: configuration_of(info) for address, info in serving.items()}
        configuration = _most_common(configurations.values(), self._configuration)
        if configuration is None:
            self._metrics.set_servers(used=0, refused=0, unavailable=len(self._servers))
            return
        used = [address for address in serving if configurations[address] == configuration]
        info = serving[used[0]]
        for address, found in configurations.items():
            if found == configuration:
                self._refused.pop(address, None)
            elif self._refused.get(address) != found:
                self._refused[address] = found
                text = "; ".join(differences(serving[address], info))
                log.error("the upstream server %s is not used, because its responses may differ: %s", address, text)
        unavailable = len(self._servers) - len(serving)
        self._metrics.set_servers(used=len(used), refused=len(serving) - len(used), unavailable=unavailable)
        addresses = tuple(sorted(set(self._servers).difference(self._refused)))
        if (addresses, configuration) != (self._used, self._configuration):
            await self._connect(addresses, info, self._servers[used[0]])
            self._used, self._configuration = addresses, configuration
        digests = {one.image_digest if one.HasField("image_digest") else None for one in map(serving.__getitem__, used)}
        digest = digests.pop() if len(digests) == 1 else None
        self._service.provenance = Provenance(dict(info.versions), list(info.pin_differences), digest)

    async def _connect(self, addresses: Sequence[str], info: pb.GetServerInfoResponse, server: UpstreamServer) -> None:
        """Connect to the servers at `addresses`, and send new calls to these servers.

        All servers at `addresses` must have the same configuration. `info` is the description of `server`, one of the
        servers at `addresses`.

        Raises TimeoutError if no connection is made in time, and grpc.aio.AioRpcError if the models cannot be loaded.
        After an error, the previous channel stays in use.
        """
        authority = self._addresses.authority
        channel = upstream_channel(addresses, authority, self._credentials, health_service=health_service(info))
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await channel.channel_ready()
            if configuration_of(info) != self._configuration:
                self._service.models.replace(await load_models(server.stub, info, self._calls))
        except BaseException:
            await channel.close()
            raise
        self._calls.use(channel, len(addresses))
        self._channel.replace(channel)
        names = ", ".join(instance.model.name for instance in self._service.models)
        log.info("the upstream servers serve %s: %s", names, ", ".join(addresses))

    def _set_serving(self, is_ready: bool) -> None:
        lifecycle = self._service.lifecycle
        if lifecycle.state in (State.LOADING, State.SERVING):
            lifecycle.transition_to(State.SERVING if is_ready else State.LOADING)


def _most_common(configurations: Iterable[str], current: str | None) -> str | None:
    """Return the most common item of `configurations`, or None if `configurations` is empty.

    If several configurations are equally common, prefer `current`.
    """
    counts = Counter(configurations)
    return max(counts, key=lambda one: (counts[one], one == current, one), default=None)
