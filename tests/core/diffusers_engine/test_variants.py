"""Pipelines that are built from the components of a loaded one: they share its weights, including LoRAs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
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
    """A directory with a StableDiffusionPipeline that contains a motion adapter, as the embedded model does."""
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


async def frame_data(model: LoadedModel, thread: DeviceThread, **fields: Any) -> list[bytes]:
    request = GenerationRequest(prompt="a sea", size=(64, 64), steps=3, **fields)
    engine = DiffusersEngine(model, thread)
    planned = plan(request, bundle_of(model.info), model.info)
    return [event.frame.data async for event in engine.generate(planned, Job()) if isinstance(event, Frame)]


@pytest.mark.slow
async def test_model_with_a_motion_adapter_generates_images_and_videos(
    models_dir: Path, device: Device, device_thread: DeviceThread
) -> None:
    model = load(ModelSource("both", None, models_dir), device)
    assert model.info.modalities == (Modality.IMAGE, Modality.VIDEO)
    video_modes = [mode for mode in model.info.modes if mode.modality is Modality.VIDEO]
    assert [replace(mode, extra=()) for mode in video_modes] == [GenerationMode(Modality.VIDEO, previews=True)]
    assert [field.name for field in video_modes[0].extra] == ["clip_skip"]
    assert model.info.limits == RequestLimits()
    assert len(await frame_data(model, device_thread, modality=Modality.VIDEO)) == 24
    assert len(await frame_data(model, device_thread)) == 1


def build_bf16_pipeline() -> Any:
    return build_pipeline().to(dtype=torch.bfloat16)


@pytest.mark.parametrize("origin", ["directory", "directory, in bf16", "factory, in bf16"])
def test_variants_share_the_same_weights(origin: str, models_dir: Path, device: Device) -> None:
    source = ModelSource("both", None, models_dir)
    if origin == "directory, in bf16":
        device = replace(device, dtype_name="bf16")
    elif origin == "factory, in bf16":
        adapter = models_dir / "both" / "motion_adapter"
        source = ModelSource(None, f"{__name__}:build_bf16_pipeline", models_dir, motion_adapter=adapter)
    model = load(source, device)
    text_to_image, image_to_image, inpainting, video = model.variants
    expected = torch.float32 if origin == "directory" else torch.bfloat16
    assert {weight.dtype for weight in video.pipeline.unet.parameters()} == {expected}
    assert [variant.family.pipeline_class for variant in model.variants] == [
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "AnimateDiffPipeline",
    ]
    for name in ("vae", "text_encoder"):
        components = {id(getattr(variant.pipeline, name)) for variant in model.variants}
        assert len(components) == 1
    assert image_to_image.pipeline.unet is inpainting.pipeline.unet is text_to_image.pipeline.unet
    image_weights = {weight.data_ptr() for weight in text_to_image.pipeline.unet.parameters()}
    motion_weights = {weight.data_ptr() for weight in video.pipeline.motion_adapter.parameters()}
    for name, weight in video.pipeline.unet.named_parameters():
        assert weight.data_ptr() in (motion_weights if "motion_modules" in name else image_weights), name


@pytest.mark.slow
async def test_images_are_the_same_with_and_without_a_motion_adapter(
    models_dir: Path, device: Device, device_thread: DeviceThread, tiny_model: LoadedModel
) -> None:
    both = load(ModelSource("both", None, models_dir), device)
    await frame_data(both, device_thread, modality=Modality.VIDEO)
    assert await frame_data(both, device_thread) == await frame_data(tiny_model, device_thread)


@pytest.mark.slow
async def test_lora_scale_changes_the_latents(
    models_dir: Path, device: Device, device_thread: DeviceThread, tiny_model: LoadedModel
) -> None:
    file = models_dir / "lora" / "pytorch_lora_weights.safetensors"

    async def with_scale(*scales: float, modality: Modality = Modality.IMAGE) -> list[bytes]:
        sources = tuple(LoraSource(str(file), scale) for scale in scales)
        model = load(ModelSource("both", None, models_dir, loras=sources), device)
        assert model.info.loras == tuple(Lora("pytorch_lora_weights", scale) for scale in scales)
        return await frame_data(model, device_thread, modality=modality)

    plain = await frame_data(tiny_model, device_thread)
    whole = await with_scale(1.0)
    assert plain != whole
    assert await with_scale(0.0) == plain
    assert await with_scale(0.3) not in (plain, whole)
    assert await with_scale(0.5, 0.5) != plain
    assert await with_scale(1.0, modality=Modality.VIDEO) != await with_scale(modality=Modality.VIDEO)


def test_parse_loras_accepts_paths_with_and_without_scale() -> None:
    assert parse_loras(None) == ()
    assert parse_loras(" a/b.safetensors:0.5, org/name ,") == (
        LoraSource("a/b.safetensors", 0.5),
        LoraSource("org/name", 1.0),
    )
    assert parse_loras("/models/style.safetensors:1")[0].info == Lora("style", 1.0)
    with pytest.raises(InvalidSettings, match="a number as the scale, got 'a:b'"):
        parse_loras("a:b")


@pytest.mark.parametrize("fault", ["missing", "broken", "other"])
def test_lora_that_cannot_be_loaded_is_named_in_the_error(
    fault: str, models_dir: Path, tmp_path: Path, device: Device
) -> None:
    file = tmp_path / "style.safetensors"
    if fault == "broken":
        file.write_bytes(b"not weights")
    elif fault == "other":
        from safetensors.torch import save_file

        save_file({"unet.nowhere.lora_A.weight": torch.ones(2, 2)}, file)
    source = ModelSource("both", None, models_dir, loras=(LoraSource(str(file), 1.0),))
    with pytest.raises(ModelLoadError, match=r"LoRA weights .*style") as caught:
        load(source, device)
    assert "\n" not in str(caught.value)
