"""LocalModel: what only a server does when it loads a model."""

import asyncio
from pathlib import Path

import pytest

from codec_server.local_model import LocalModel
from codec_wire.pipelines import numpy_math
from codec_wire.pipelines.host import HOST
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings
from tests.support.arithmetic import arithmetic


async def test_only_a_server_encodes_with_compiled_loops(tmp_path: Path) -> None:
    pytest.importorskip("numba", reason="the extra kernel is not installed")
    settings = Settings(
        pipeline="tests.support.families.videos:build_animatediff",
        models_dir=tmp_path,
        calibration_images=0,
        device="cpu",
        threads=1,
    )
    one_generation, server = LocalModel(settings), LocalModel(settings)
    try:
        with arithmetic("numpy"):
            await one_generation.load(new_service())
            assert HOST.encoding is numpy_math
            await server.start_serving(new_service())
            assert HOST.encoding is HOST.decoding
            assert HOST.encoding.__name__ == "codec_wire.pipelines.compiled_math"
    finally:
        for model in (one_generation, server):
            await asyncio.to_thread(model.free)


def new_service() -> LatentService:
    return LatentService(Lifecycle(), Admission(8, 10**12))
