"""Pipeline classes without a row in the family table: their arguments are inferred, and their pixels must be proven."""

import json
from pathlib import Path
from typing import Any

import pytest

from codec_pixels.device import Device
from codec_server.local_model import LocalModel
from codec_wire.errors import ModelLoadError
from core.admission import Admission
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loader import ModelSource, load
from core.lifecycle import Lifecycle
from core.pixel_checks import PixelCheck
from core.role import Role
from core.service import LatentService
from core.settings import Settings
from tests.support.families import unlisted


async def checks_of(models_dir: Path, **source: Any) -> tuple[PixelCheck, ...]:
    settings = Settings(models_dir=models_dir, device="cpu", threads=1, calibration_images=0, **source)
    model, service = LocalModel(settings), LatentService(Lifecycle(), Admission(1, 10**10))
    try:
        await model.start_serving(service)
        return service.models.require_default().pixel_checks
    finally:
        model.free()


@pytest.mark.parametrize("is_factory", [True, False])
async def test_class_without_a_row_is_served_if_its_pixels_are_equal(is_factory: bool, tmp_path: Path) -> None:
    assert "CogView3PlusPipeline" not in FAMILIES
    source = {"pipeline": f"{unlisted.__name__}:build_cogview3"}
    if not is_factory:
        unlisted.build_cogview3().save_pretrained(tmp_path / "model")
        source = {"model": "model"}
    (check,) = await checks_of(tmp_path, **source)
    assert check.pipeline == "CogView3PlusPipeline"
    assert check.max_difference is not None
    assert check.max_difference <= check.tolerance == 1


async def test_class_without_a_row_is_refused_with_the_difference_of_its_pixels(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"Brighter.* by up to \d+ of 255 levels, but the maximum is 1"):
        await checks_of(tmp_path, pipeline=f"{unlisted.__name__}:build_cogview3_with_other_vae")


async def test_class_without_a_row_is_refused_if_it_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="cannot generate"):
        await checks_of(tmp_path, pipeline=f"{unlisted.__name__}:build_video_to_video")


def test_class_without_a_row_is_refused_without_its_vae(tmp_path: Path, device: Device) -> None:
    factory = f"{unlisted.__name__}:build_cogview3"
    with pytest.raises(ModelLoadError, match="CogView3PlusPipeline, which has no row .* set CODEC_ROLE=all"):
        load(ModelSource(None, factory, tmp_path, role=Role.GENERATOR), device)


def test_class_with_other_arguments_is_refused_with_the_names_of_the_arguments(tmp_path: Path, device: Device) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "model_index.json").write_text(json.dumps({"_class_name": "StableAudioPipeline"}))
    with pytest.raises(ModelLoadError, match="StableAudioPipeline has no row .* it has no argument width"):
        load(ModelSource("audio", None, tmp_path), device)
