"""One loaded model, several ways to call it: they share their weights, LoRAs included."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict

from codec_pixels.device import Device
from codec_wire.errors import InvalidSettings, ModelLoadError
from codec_wire.events import Frame
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel, ModelSource, load
from core.diffusers_engine.loras import LoraSource, parse_loras
from core.engine import Job
from core.model import GenerationMode, Lora, RequestLimits
from core.plan import plan
from tests.support.families.videos import build_motion_adapter
from tests.support.serving import bundle_of
from tests.support.tiny_sd import build_pipeline


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory as the embedded model's: a StableDiffusionPipeline with a motion adapter beside its parts."""
    folder = tmp_path_factory.mktemp("models")
    build_pipeline().save_pretrained(folder / "both")
    build_motion_adapter().save_pretrained(folder / "both" / "motion_adapter")
    write_lora(folder / "lora", 1)
    return folder


def write_lora(folder: Path, seed: int) -> None:
    unet = build_pipeline().unet
    torch.manual_seed(seed)
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    layers: dict[str, Any] = get_peft_model_state_dict(unet)
    type(build_pipeline()).save_lora_weights(folder, unet_lora_layers=layers)


async def made(model: LoadedModel, thread: ThreadPoolExecutor, **fields: Any) -> list[bytes]:
    request = GenerationRequest(prompt="a sea", size=(64, 64), steps=3, **fields)
    engine = DiffusersEngine(model, thread)
    what = plan(request, bundle_of(model.info), model.info)
    return [event.frame.data async for event in engine.generate(what, Job()) if isinstance(event, Frame)]


async def test_a_motion_adapter_beside_a_models_parts_makes_videos_of_them(
    models_dir: Path, device: Device, device_thread: ThreadPoolExecutor
) -> None:
    model = load(ModelSource("both", None, models_dir), device)
    assert model.info.modalities == (Modality.IMAGE, Modality.VIDEO)
    assert GenerationMode(Modality.VIDEO) in model.info.forms
    assert model.info.limits == RequestLimits()
    assert len(await made(model, device_thread, modality=Modality.VIDEO)) == 24
    assert len(await made(model, device_thread)) == 1


@pytest.mark.parametrize("way", ["directory", "factory, to another dtype"])
def test_all_ways_hold_the_same_weights_once(way: str, models_dir: Path, device: Device) -> None:
    source = ModelSource("both", None, models_dir)
    if way != "directory":
        adapter = models_dir / "both" / "motion_adapter"
        source = ModelSource(None, "tests.support.tiny_sd:build_pipeline", models_dir, motion_adapter=adapter)
        device = replace(device, dtype_name="bf16")
    model = load(source, device)
    assert model.pipeline.unet.dtype == device.dtype
    image, picture, video = model.routes
    assert [route.family.pipeline_class for route in model.routes] == [
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "AnimateDiffPipeline",
    ]
    for name in ("vae", "text_encoder"):
        parts = {id(getattr(route.pipeline, name)) for route in model.routes}
        assert len(parts) == 1
    assert picture.pipeline.unet is image.pipeline.unet
    places = {weight.data_ptr() for weight in image.pipeline.unet.parameters()}
    moved = {weight.data_ptr() for weight in video.pipeline.motion_adapter.parameters()}
    for name, weight in video.pipeline.unet.named_parameters():
        assert weight.data_ptr() in (moved if "motion_modules" in name else places), name


async def test_images_are_the_same_with_and_without_the_adapter(
    models_dir: Path, device: Device, device_thread: ThreadPoolExecutor, tiny_model: LoadedModel
) -> None:
    both = load(ModelSource("both", None, models_dir), device)
    await made(both, device_thread, modality=Modality.VIDEO)
    assert await made(both, device_thread) == await made(tiny_model, device_thread)


async def test_loras_change_what_is_made_by_their_scale(
    models_dir: Path, device: Device, device_thread: ThreadPoolExecutor, tiny_model: LoadedModel
) -> None:
    file = models_dir / "lora" / "pytorch_lora_weights.safetensors"

    async def with_scale(*scales: float, modality: Modality = Modality.IMAGE) -> list[bytes]:
        sources = tuple(LoraSource(str(file), scale) for scale in scales)
        model = load(ModelSource("both", None, models_dir, loras=sources), device)
        assert model.info.loras == tuple(Lora("pytorch_lora_weights", scale) for scale in scales)
        return await made(model, device_thread, modality=modality)

    plain = await made(tiny_model, device_thread)
    whole = await with_scale(1.0)
    assert plain != whole
    assert await with_scale(0.0) == plain
    assert await with_scale(0.3) not in (plain, whole)
    assert await with_scale(0.5, 0.5) != plain
    assert await with_scale(1.0, modality=Modality.VIDEO) != await with_scale(modality=Modality.VIDEO)


def test_the_setting_is_read() -> None:
    assert parse_loras(None) == ()
    assert parse_loras(" a/b.safetensors:0.5, org/name ,") == (
        LoraSource("a/b.safetensors", 0.5),
        LoraSource("org/name", 1.0),
    )
    assert parse_loras("/models/style.safetensors:1")[0].told == Lora("style", 1.0)
    with pytest.raises(InvalidSettings, match="a number after the colon"):
        parse_loras("a:b")


@pytest.mark.parametrize("what", ["missing", "broken", "other"])
def test_a_lora_that_cannot_be_had_is_named(what: str, models_dir: Path, tmp_path: Path, device: Device) -> None:
    file = tmp_path / "style.safetensors"
    if what == "broken":
        file.write_bytes(b"not weights")
    elif what == "other":
        from safetensors.torch import save_file

        save_file({"unet.nowhere.lora_A.weight": torch.ones(2, 2)}, file)
    source = ModelSource("both", None, models_dir, loras=(LoraSource(str(file), 1.0),))
    with pytest.raises(ModelLoadError, match=r"LoRA weights .*style") as caught:
        load(source, device)
    assert "\n" not in str(caught.value)
