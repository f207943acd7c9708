"""Many clients can connect at the same moment."""

import contextlib
import socket

from tests.support.fake_engine import FakeEngine
from tests.support.serving import http_address, run_servers

CLIENTS = 400


async def test_burst_of_clients_connects_while_the_event_loop_is_busy() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        host, _, port = http_address(servers).removeprefix("http://").partition(":")
        with contextlib.ExitStack() as stack:
            # Nothing is awaited here, so the server accepts none of the connections: the kernel completes them.
            for _ in range(CLIENTS):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=0.5))
