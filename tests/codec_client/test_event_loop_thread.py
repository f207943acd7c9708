"""The event loop in a background thread, which the blocking clients use."""

import asyncio

from codec_client.event_loop_thread import EventLoopThread


async def test_loop_is_stopped_by_a_thread_that_runs_another_loop() -> None:
    thread = EventLoopThread()
    assert thread.run(asyncio.sleep(0, "result")) == "result"
    thread.stop()
    assert thread._loop.is_closed()
