"""Clean estimates of every pipeline class and scheduler: the last one is the result."""

from concurrent.futures import Executor
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest

from codec_pixels.device import Device
from core.diffusers_engine.clean_estimates import has_estimates
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import call_pipeline
from core.diffusers_engine.variants import PipelineVariant
from core.engine import Job
from core.plan import plan
from core.probe import probe_request
from tests.support.factories import load_from_factory
from tests.support.pipeline_pixels import bundle_with_dtype

pytestmark = pytest.mark.slow

FACTORIES = (
    "tiny_sd:build_pipeline",
    "tiny_sdxl:build_sdxl",
    *(
        f"families.images:build_{name}"
        for name in ("controlnet", "sd3", "flux", "pixart_alpha", "pixart_sigma", "sana")
    ),
    *(f"families.videos:build_{name}" for name in ("animatediff", "svd", "cogvideox", "wan", "ltx", "hunyuan")),
)
SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)


def estimates_and_result(model: LoadedModel, variant: PipelineVariant, steps: int = 4) -> tuple[list[Any], Any]:
    mode = variant.mode
    size = (2 * model.info.size_multiple,) * 2
    request = probe_request(model.info, mode.modality, "a sea", 3, mode, size=size, steps=steps, pipeline="raw")
    planned = plan(request, bundle_with_dtype(model, "fp32"), model.info)
    found: list[Any] = []

    def listen(_done: int, estimate: Any) -> None:
        clean = estimate()
        found.append(variant.family.latents(variant.pipeline, SimpleNamespace(images=clean, frames=clean), planned))

    output = call_pipeline(variant, planned, decode_inputs(planned), "latent", Job(), on_estimate=listen)
    return found, variant.family.latents(variant.pipeline, output, planned)


@pytest.mark.parametrize("factory", FACTORIES)
def test_last_estimate_of_every_pipeline_class_is_the_result(
    device: Device, device_thread: Executor, factory: str
) -> None:
    model = load_from_factory(f"tests.support.{factory}", device)
    for variant in model.variants:
        assert variant.mode.previews == (variant.family.pipeline_class != "LTXImageToVideoPipeline")
        if not variant.mode.previews:
            continue
        found, result = device_thread.submit(estimates_and_result, model, variant).result()
        last = found[-1]
        if variant.mode.mask:  # outside the mask, which covers the left half, the result is the input image
            last, result = (one[..., : one.shape[-1] // 2] for one in (last, result))
        distance = (last - result).norm() / result.norm()
        # The last step of DDIM ends at a noise level above 0.
        assert distance <= (0.02 if "DDIM" in type(variant.pipeline.scheduler).__name__ else 0), variant.family


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # KDPM2
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_last_estimate_of_every_scheduler_is_the_result(
    device: Device, device_thread: Executor, scheduler: str
) -> None:
    model = load_from_factory("tests.support.tiny_sd:build_small_pipeline", device)
    variant = model.variants[0]
    config = variant.pipeline.scheduler.config
    variant.pipeline.scheduler = getattr(diffusers, scheduler).from_config(config, prediction_type="v_prediction")
    found, result = device_thread.submit(estimates_and_result, model, variant, steps=6).result()
    distances = [float((estimate - result).norm() / result.norm()) for estimate in found]
    assert distances[-1] < 0.02, distances
    assert distances[-1] < distances[0] / 10, distances


def test_scheduler_without_estimates_has_no_previews(device: Device) -> None:
    model = load_from_factory("tests.support.tiny_sd:build_small_pipeline", device)
    variant = model.variants[0]
    config = variant.pipeline.scheduler.config
    assert variant.mode.previews
    variant.pipeline.scheduler = diffusers.TCDScheduler.from_config(config)
    assert not has_estimates(variant.pipeline.scheduler)
    assert not variant.mode.previews
