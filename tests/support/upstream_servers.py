"""gRPC servers behind a gateway, in the test's event loop, and requests to the gateway."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from codec_grpc.server import GrpcServer, start_grpc_server
from codec_wire.maps import LatentMapBundle
from core.admission import Admission
from core.engine import Event, Job
from core.lifecycle import Lifecycle, State
from core.pins import Provenance
from core.plan import StreamPlan
from core.served import ModelInstance
from core.service import LatentService
from tests.support.fake_engine import WAIT_S, FakeEngine
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.serving import MODEL, bundle_of


def free_port() -> int:
    """Return a port on which no process listens now, for a server that is started again on the same port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class RefusingEngine(FakeEngine):
    """An engine that raises `error` before the first event of every job; not if it is set to None."""

    def __init__(self, error: Exception) -> None:
        super().__init__(free_running=True)
        self.error: Exception | None = error

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """See core.engine.Engine."""
        self.started.append(plan)
        await self._notify()
        if self.error is not None:
            raise self.error
        async for event in super().generate(plan, job):
            yield event


class WaitingEngine(FakeEngine):
    """An engine whose jobs wait for a step before their first event, as jobs in a queue do."""

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """See core.engine.Engine."""
        self.started.append(plan)
        await self._notify()
        await self._wait_for_step(job)
        async for event in super().generate(plan, job):
            yield event


@dataclass(frozen=True, slots=True)
class RunningUpstream:
    """A gRPC server of a gateway, its service and its engine."""

    service: LatentService
    engine: FakeEngine
    server: GrpcServer
    host: str

    @property
    def address(self) -> str:
        """IP:PORT of the server."""
        return f"{self.host}:{self.server.port}"

    @property
    def started(self) -> int:
        """Number of jobs that its engine has started."""
        return len(self.engine.started)


@asynccontextmanager
async def upstream_server(
    engine: FakeEngine | None = None,
    *,
    bundle: LatentMapBundle | None = None,
    versions: dict[str, str] | None = None,
    state: State = State.SERVING,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[RunningUpstream]:
    """Run a server of the tests' model in `state`, with an engine that does not wait unless one is given.

    `bundle` is its map, `versions` are the versions of the libraries that it reports.
    """
    used = engine or FakeEngine(free_running=True)
    provenance = Provenance(versions or {"torch": "1"}, [])
    service = LatentService(Lifecycle(), Admission(32, 10**12), provenance)
    service.models.replace([ModelInstance(MODEL, bundle or bundle_of(MODEL), used, "test")])
    service.lifecycle.transition_to(state)
    server = await start_grpc_server(service, host, port, 60)
    try:
        yield RunningUpstream(service, used, server, host)
    finally:
        await server.stop()


async def generate(http: aiohttp.ClientSession) -> tuple[int, bytes]:
    """Generate an image in one step; return the HTTP status and the body."""
    async with http.post(IMAGES, json=LATENTS | {"steps": 1}) as response:
        return response.status, await response.read()


async def generate_all(http: aiohttp.ClientSession, count: int) -> list[int]:
    """Generate `count` images, one after another; return the HTTP statuses."""
    return [(await generate(http))[0] for _ in range(count)]


async def generate_until(http: aiohttp.ClientSession, condition: Callable[[], bool]) -> None:
    """Generate images until `condition` is true; fail after WAIT_S seconds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await generate(http)
            await asyncio.sleep(0.01)
