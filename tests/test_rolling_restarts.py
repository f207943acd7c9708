"""Two gateways in front of three servers, all of which are restarted in turn under load: no request is lost."""

import asyncio
import re
import signal
import sys
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.support.http_requests import IMAGES, LATENTS
from tests.support.processes import COMMAND
from tests.support.upstream_servers import free_port

pytestmark = pytest.mark.slow

CLIENTS = 4
PAUSE_S = 0.03
"""Time from a response to the next request of a client, so that the processes start quickly."""
REQUESTS_BETWEEN_RESTARTS = 20


class RestartedProcess:
    """A process that is stopped with SIGTERM and started again with the same arguments."""

    def __init__(self, *command: str, ready: str, url: str = "") -> None:
        self.log = ""
        self.url = url
        self._command = command
        self._ready = ready
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._is_ready = asyncio.Event()
        self.is_stopping = False

    async def start(self) -> None:
        """Start the process, and wait until it serves."""
        self._is_ready.clear()
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        self._reader = asyncio.create_task(self._read(self._process))
        await self._is_ready.wait()
        self.is_stopping = False

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.log += line.decode()
            if self._ready in line.decode():
                self._is_ready.set()

    async def stop(self) -> None:
        """Send SIGTERM, and wait until the process has drained."""
        assert self._process is not None
        assert self._reader is not None
        self.is_stopping = True
        self._process.send_signal(signal.SIGTERM)
        assert await self._process.wait() == 0, self.log
        await self._reader

    async def restart(self) -> None:
        """Stop the process and start it again."""
        await self.stop()
        await self.start()

    def kill(self) -> None:
        """End the process at once if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


class Clients:
    """Clients that send one request after the other, to a gateway that accepts it."""

    def __init__(self, gateways: list[RestartedProcess], session: aiohttp.ClientSession) -> None:
        self.completed = self.refused = 0
        self._gateways = gateways
        self._session = session
        self._body: bytes | None = None

    async def run(self, first: int) -> None:
        """Send requests until cancelled, to gateway number `first` and the next ones in turn."""
        number = first
        while True:
            accepted = await self._is_accepted(self._gateways[number % len(self._gateways)])
            self.completed += accepted
            self.refused += not accepted
            number += 1
            await asyncio.sleep(PAUSE_S)

    async def _is_accepted(self, gateway: RestartedProcess) -> bool:
        """Send a request. Only a gateway that is being stopped may refuse it; the response must be complete."""
        was_stopping = gateway.is_stopping
        try:
            response = await self._session.post(gateway.url + IMAGES, json=LATENTS)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, ConnectionResetError):
            assert was_stopping or gateway.is_stopping, gateway.log
            return False
        async with response:
            body = await response.read()
        if response.status == 503 and (was_stopping or gateway.is_stopping):
            return False
        assert response.status == 200, (body, gateway.log)
        self._body = self._body or body
        assert body == self._body
        return True

    async def complete(self, count: int) -> None:
        """Wait until `count` more requests are complete."""
        end = self.completed + count
        while self.completed < end:
            await asyncio.sleep(0.01)


async def test_rolling_restarts_lose_no_request() -> None:
    ports = [free_port() for _ in range(3)]
    module = "tests.support.noise_server"
    servers = [RestartedProcess(sys.executable, "-m", module, str(port), ready="grpc=") for port in ports]
    upstream = ",".join(f"127.0.0.1:{port}" for port in ports)
    gateways = []
    for port in (free_port(), free_port()):
        command = (COMMAND, "gateway", "--upstream", upstream, "--port", str(port))
        gateways.append(RestartedProcess(*command, ready="servers serve", url=f"http://127.0.0.1:{port}"))
    async with AsyncExitStack() as stack:
        for process in (*servers, *gateways):
            stack.callback(process.kill)
        await asyncio.gather(*(process.start() for process in (*servers, *gateways)))
        session = await stack.enter_async_context(aiohttp.ClientSession(headers={"Accept-Encoding": "identity"}))
        clients = Clients(gateways, session)
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(clients.run(number)) for number in range(CLIENTS)]
            for processes in ([servers[0]], [servers[1], gateways[0]], [servers[2], gateways[1]]):
                await clients.complete(REQUESTS_BETWEEN_RESTARTS)
                await asyncio.gather(*(process.restart() for process in processes))
            await clients.complete(REQUESTS_BETWEEN_RESTARTS)
            for task in running:
                task.cancel()
        print(f"{clients.completed} requests completed, {clients.refused} refused by a gateway that was being stopped")
        await asyncio.gather(*(process.stop() for process in (*gateways, *servers)))
    for gateway in gateways:
        assert "Traceback" not in gateway.log
        logged = re.findall(rf"{IMAGES} (\d+ \w+)", gateway.log)
        assert {*logged} <= {"200 ok", "503 not_ready", "499 cancelled"}, gateway.log  # the last ones by this test
