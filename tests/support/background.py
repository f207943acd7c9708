"""The tests' servers in a thread, for tests of commands and clients that block."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from codec_client.event_loop_thread import EventLoopThread
from core.engine import Engine
from tests.support.serving import Servers, run_servers


@contextmanager
def background_servers(engine: Engine, *arguments: Any, **options: Any) -> Iterator[tuple[Servers, EventLoopThread]]:
    """Run servers for `engine` in a new thread; the arguments are those of `run_servers`.

    Yields the servers and their thread, which runs coroutines on the servers' event loop.
    """
    thread = EventLoopThread()
    servers = run_servers(engine, *arguments, **options)
    try:
        yield thread.run(servers.__aenter__()), thread
    finally:
        thread.run(servers.__aexit__(None, None, None))
        thread.stop()
