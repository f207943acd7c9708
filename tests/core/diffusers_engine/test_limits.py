"""Sizes and numbers of frames that a model cannot generate are refused by the plan, and the largest ones work."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_wire.errors import InvalidRequest
from codec_wire.latents import Modality
from codec_wire.request import parse_request
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample
from core.engine import Job
from core.plan import StreamPlan, plan
from core.probe import sample_image
from tests.support.factories import load_built
from tests.support.families import flux, images, kandinsky, newer_images, newer_videos, qwen, videos, wan
from tests.support.pipeline_pixels import bundle_with_dtype

VIDEO: dict[str, Any] = {"modality": Modality.VIDEO, "frames": 5}
LEARNED = partial(newer_videos.build_cogvideox_image_to_video, use_learned_positional_embeddings=True)


def plan_of(model: LoadedModel, fields: dict[str, Any]) -> StreamPlan:
    common = {"prompt": "a sea", "steps": 1, "size": (64, 64)}
    return plan(parse_request(common | fields), bundle_with_dtype(model, "fp32"), model.info)


@pytest.mark.parametrize(
    ("build", "largest", "beyond", "message"),
    [
        (newer_videos.build_animatediff_xl, VIDEO | {"frames": 32}, {"frames": 33}, "frames: must be at most 32"),
        (images.build_sd3, {"size": (1536, 32)}, {"size": (32, 1552)}, "size: .* from 16 to 1536, got 32x1552"),
        (newer_images.build_aura_flow, {"size": (64, 256)}, {"size": (272, 64)}, "size: .* to 256, got 272x64"),
        (newer_images.build_lumina2, {"size": (64, 1024)}, {"size": (1040, 64)}, "size: .* to 1024, got 1040x64"),
        (qwen.build_z_image, {"size": (1024, 64)}, {"size": (64, 1040)}, "size: .* to 1024, got 64x1040"),
        (
            newer_images.build_hidream,
            {"size": (512, 128)},
            {"size": (512, 144)},
            "size: must have at most 65536 pixels",
        ),
        (
            partial(videos.build_cogvideox, 2),
            VIDEO | {"frames": 9, "size": (96, 64)},
            {"size": (112, 64)},
            "size: .* to 96",
        ),
        (videos.build_wan, VIDEO | {"size": (1024, 16)}, {"size": (1040, 16)}, "size: .* to 1024, got 1040x16"),
        (wan.build_skyreels, VIDEO | {"frames": 253, "size": (16, 16)}, {"frames": 257}, "frames: must be at most 253"),
        (
            LEARNED,
            VIDEO | {"frames": 9, "size": (96, 96), "image": sample_image(0)},
            {"size": (64, 96)},
            "size: must be 96x96, the only size of .*, got 64x96",
        ),
    ],
    ids=["motion", "sd3", "aura", "lumina", "z-image", "hidream", "cogvideox-1.5", "wan", "skyreels", "learned"],
)
@pytest.mark.slow
def test_largest_request_works_and_a_larger_one_is_refused(
    build: Callable[[], Any], largest: dict[str, Any], beyond: dict[str, Any], message: str, device: Device
) -> None:
    model = load_built(build(), device)
    latents = sample(model, plan_of(model, largest), Job(), lambda _done, _total: None)
    assert latents.isfinite().all()
    with pytest.raises(InvalidRequest, match=f"^{message}"):
        plan_of(model, largest | beyond)


def test_shortest_video_works_and_a_shorter_one_is_refused(device: Device) -> None:
    pytest.importorskip("ftfy")
    model = load_built(kandinsky.build_kandinsky_image_to_video(), device)
    fields = VIDEO | {"frames": 17, "image": sample_image(0)}
    assert sample(model, plan_of(model, fields), Job(), lambda _done, _total: None).isfinite().all()
    with pytest.raises(InvalidRequest, match="^frames: must be at least 17 for .*, got 13"):
        plan_of(model, fields | {"frames": 13})
    assert (
        plan_of(model, {"modality": Modality.VIDEO, "image": sample_image(0), "duration_seconds": 0.1}).num_frames == 17
    )


async def require_refused(model: LoadedModel, device_thread: DeviceThread, plan: StreamPlan, message: str) -> None:
    """Require that the engine refuses `plan` with `message` before its first event."""
    with pytest.raises(InvalidRequest, match=message):
        await anext(DiffusersEngine(model, device_thread).generate(plan, Job()))


async def test_prompt_that_the_pipeline_cannot_shorten_is_refused(device: Device, device_thread: DeviceThread) -> None:
    pytest.importorskip("ftfy")
    pipeline = kandinsky.build_kandinsky_edit()
    model, processor = load_built(pipeline, device), pipeline.tokenizer
    template = len(processor.tokenizer(pipeline.prompt_template.format("")).input_ids)
    longest = 1024 + pipeline.prompt_template_encode_start_idx - template + 1 - 4  # the image has 4 tokens
    fields = {"image": sample_image(0)}

    def plan_with(letters: int) -> StreamPlan:
        return plan_of(model, fields | {"prompt": "a" * letters})

    assert sample(model, plan_with(longest), Job(), lambda _done, _total: None).isfinite().all()
    message = "^prompt: must be 1 tokens shorter .* of which the input image uses 4$"
    await require_refused(model, device_thread, plan_with(longest + 1), message)


@pytest.mark.parametrize("size", [(576, 64), (32, 128)])
async def test_size_of_a_reference_image_that_flux2_does_not_accept_is_refused(
    size: tuple[int, int], device: Device, device_thread: DeviceThread
) -> None:
    model = load_built(flux.build_flux2(), device)

    def latents_of(fields: dict[str, Any]) -> Any:
        return sample(model, plan_of(model, fields), Job(), lambda _done, _total: None)

    assert latents_of({"size": size}).isfinite().all()
    assert latents_of({"size": (512, 64), "image": sample_image(0)}).isfinite().all()
    message = "^size: sides must be at least 64 and have a ratio of at most 8:1 for "
    await require_refused(model, device_thread, plan_of(model, {"size": size, "image": sample_image(0)}), message)


def test_default_number_of_frames_is_within_the_limit(device: Device) -> None:
    pipeline = newer_videos.build_animatediff_xl()
    pipeline.unet.register_to_config(motion_max_seq_length=16)
    fields = {"modality": Modality.VIDEO}
    assert plan_of(load_built(pipeline, device), fields).num_frames == 16
