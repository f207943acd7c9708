"""Servers in a thread of their own, for tests that run commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from codec_client.blocking import LoopThread
from core.engine import Engine
from tests.support.serving import Servers, servers_over


@contextmanager
def background_servers(engine: Engine, *arguments: Any, **options: Any) -> Iterator[tuple[Servers, LoopThread]]:
    """Serve `engine` until left; the loop thread is for what must be awaited there."""
    loop = LoopThread()
    context = servers_over(engine, *arguments, **options)
    try:
        yield loop.run(context.__aenter__()), loop
    finally:
        loop.run(context.__aexit__(None, None, None))
        loop.stop()
