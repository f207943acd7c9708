"""The dtypes and devices of loaded models: those of `from_pretrained`, or those of the factory."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

from codec_pixels.device import AUTO, Device
from codec_pixels.device_thread import DeviceThread
from codec_wire.events import Frame
from codec_wire.request import GenerationRequest
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel, ModelSource, load
from core.diffusers_engine.precision import automatic_dtype, stored_dtype
from core.engine import Event, Job
from core.plan import plan
from tests.support.dtypes import dtypes_of
from tests.support.families.cases import CASES, Case, pipeline_class_name
from tests.support.families.images import build_flux
from tests.support.families.videos import build_wan
from tests.support.serving import bundle_of
from tests.support.tiny_sd import build_pipeline
from tests.support.tiny_sdxl import build_sdxl

BUILDERS = {pipeline_class_name(name): case for name, case in CASES.items() if "," not in name}


@pytest.mark.slow
@pytest.mark.parametrize("case", BUILDERS.values(), ids=BUILDERS)
def test_every_tensor_has_the_dtype_that_from_pretrained_gives_it(case: Case, tmp_path: Path, device: Device) -> None:
    pipeline = case.build()
    pipeline.save_pretrained(tmp_path / "model")
    absent = {
        name: None
        for name in ("text_encoder_3", "tokenizer_3")
        if name in pipeline.components and pipeline.components[name] is None
    }
    for dtype in ("fp16", "bf16"):
        chosen = replace(device, dtype_name=dtype)
        expected = dtypes_of(DiffusionPipeline.from_pretrained(tmp_path / "model", dtype=chosen.dtype, **absent))
        model = load(ModelSource("model", None, tmp_path), chosen)
        assert chosen.dtype in expected.values()
        assert dtypes_of(model.pipeline) == expected
        for variant in model.variants[1:]:
            assert dtypes_of(variant.pipeline) == {name: expected[name] for name in dtypes_of(variant.pipeline)}
        assert dtype in str(model.device)


@pytest.mark.parametrize(("build", "part"), [(build_flux, "text_encoder_2"), (build_wan, "text_encoder")])
def test_modules_that_transformers_keeps_in_fp32_stay_in_fp32(
    build: Any, part: str, tmp_path: Path, device: Device
) -> None:
    build().save_pretrained(tmp_path / "model")
    model = load(ModelSource("model", None, tmp_path), replace(device, dtype_name="fp16"))
    weights = dict(getattr(model.pipeline, part).named_parameters())
    assert {weight.dtype for name, weight in weights.items() if name.endswith("wo.weight")} == {torch.float32}
    assert torch.float16 in {weight.dtype for weight in weights.values()}


def make_with_fp32_vae() -> Any:
    pipeline = build_wan().to(dtype=torch.bfloat16)
    pipeline.vae.to(torch.float32)
    return pipeline


def make_model_offloaded() -> Any:
    """Return what enable_model_cpu_offload() builds, with the CPU in place of a GPU."""
    pipeline = build_sdxl()
    hook = None
    for name in pipeline.model_cpu_offload_seq.split("->"):
        module = getattr(pipeline, name, None)
        if module is not None:
            _, hook = cpu_offload_with_hook(module, "cpu", prev_module_hook=hook)
    return pipeline


def make_sequentially_offloaded() -> Any:
    """Return what enable_sequential_cpu_offload() builds, with the CPU in place of a GPU: weights are on "meta"."""
    pipeline = build_pipeline()
    for module in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
        cpu_offload(module, "cpu", offload_buffers=True)
    return pipeline


async def generate(model: LoadedModel, thread: DeviceThread, **fields: Any) -> list[Event]:
    request = GenerationRequest(prompt="a sea", size=(64, 64), steps=3, **fields)
    planned = plan(request, bundle_of(model.info), model.info)
    return [event async for event in DiffusersEngine(model, thread).generate(planned, Job())]


def test_factory_keeps_its_own_dtypes(tmp_path: Path, device: Device) -> None:
    model = load(ModelSource(None, f"{__name__}:make_with_fp32_vae", tmp_path), replace(device, dtype_name="fp16"))
    assert model.pipeline.vae.dtype == torch.float32
    assert dtypes_of(model.pipeline) == dtypes_of(make_with_fp32_vae())
    assert str(model.device).startswith("cpu bf16")


@pytest.mark.parametrize("factory", ["make_model_offloaded", "make_sequentially_offloaded"])
async def test_factory_with_offload_hooks_is_served_and_gives_the_same_latents(
    factory: str, tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    offloaded = load(ModelSource(None, f"{__name__}:{factory}", tmp_path), device)
    plain_factory = "tiny_sdxl:build_sdxl" if factory == "make_model_offloaded" else "tiny_sd:build_pipeline"
    plain = load(ModelSource(None, f"tests.support.{plain_factory}", tmp_path), device)
    frames = []
    for model in (offloaded, plain):
        events = await generate(model, device_thread)
        frames.append(next(event.frame.data for event in events if isinstance(event, Frame)))
    assert frames[0] == frames[1]
    assert str(offloaded.device).startswith("cpu fp32")


@pytest.mark.parametrize(("stored", "expected"), [("bf16", "bf16"), ("fp16", "fp16"), ("fp32", "fp16"), (None, "fp16")])
def test_automatic_dtype_on_a_gpu_is_bf16_only_for_weights_in_bf16(stored: str | None, expected: str) -> None:
    assert automatic_dtype(stored) == expected


@pytest.mark.parametrize("build", [build_pipeline, build_flux, build_wan])
@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.bfloat16, "bf16"), (torch.float16, "fp16"), (torch.float32, "fp32")]
)
def test_stored_dtype_is_read_from_the_weights_of_the_denoiser(
    build: Any, dtype: torch.dtype, name: str, tmp_path: Path
) -> None:
    pipeline = build()
    (getattr(pipeline, "unet", None) or pipeline.transformer).to(dtype)
    pipeline.save_pretrained(tmp_path)
    assert stored_dtype(tmp_path) == name


def test_stored_dtype_of_a_single_file_is_that_of_most_values(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2, 3, dtype=torch.bfloat16), "b": torch.zeros(5)}, file)
    assert stored_dtype(file) == "bf16"
    file.write_bytes(b"no header")
    assert stored_dtype(file) is None
    assert stored_dtype(tmp_path / "missing") is None


def test_dtype_auto_stays_open_on_a_gpu_and_is_fp32_on_a_cpu() -> None:
    assert Device.from_settings("cpu", AUTO, 1).dtype_name == "fp32"
    assert Device.from_settings("meta", AUTO, 1).dtype_name == AUTO
