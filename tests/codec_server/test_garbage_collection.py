"""The search for reference cycles among the objects that loading has created."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from codec_server.actions import serve
from core.lifecycle import Lifecycle, State
from core.settings import Settings


@pytest.fixture
def _unfrozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_unfrozen")
async def test_loaded_objects_are_ignored_before_the_server_is_serving(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: dict[State, int] = {}
    is_serving = asyncio.Event()

    def observe(state: State) -> None:
        frozen[state] = gc.get_freeze_count()
        if state is State.SERVING:
            is_serving.set()

    class ObservedLifecycle(Lifecycle):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.subscribe(observe)

    monkeypatch.setattr(serve, "Lifecycle", ObservedLifecycle)
    settings = Settings(model="tiny-sd", models_dir=models_dir, device="cpu", threads=1, port=0, grpc_port=0)
    server = asyncio.create_task(serve.run_serve(settings))
    serving = asyncio.create_task(is_serving.wait())
    await asyncio.wait({server, serving}, timeout=120, return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    server.cancel()
    with suppress(asyncio.CancelledError):
        await server
    assert frozen[State.WARMING] == 0
    assert frozen[State.SERVING] > 0
