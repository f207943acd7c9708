"""Planning: required and unsupported inputs, and the number of frames of a video."""

from dataclasses import replace

import pytest

from codec_wire.errors import InvalidRequest
from codec_wire.latents import Modality
from codec_wire.request import parse_request
from core.model import GenerationMode, ModelInfo, RequestLimits
from core.plan import StreamPlan, plan
from core.probe import probe_request, sample_image
from tests.support.serving import MODEL, VIDEO_MODEL, bundle_of

COMPRESSED_VIDEO_MODEL = replace(VIDEO_MODEL, temporal_factor=4, frame_multiple=8)
IMG2IMG_MODEL = replace(
    MODEL, modes=(GenerationMode(Modality.IMAGE), GenerationMode(Modality.IMAGE, image=True, strength=True))
)
STEPPED_MODEL = replace(
    IMG2IMG_MODEL,
    accepts_steps=lambda _mode, steps, strength: 3 <= steps <= 40 and int(steps * (strength or 1)) > 0,
)
CONTROLNET_MODEL = replace(MODEL, modes=(GenerationMode(Modality.IMAGE, control_image=True, negative_prompt=False),))


def plan_for(model: ModelInfo, **fields: object) -> StreamPlan:
    values = {"prompt": "x", "size": (64, 64), "modality": model.modalities[0]} | fields
    return plan(parse_request(values), bundle_of(model), model)


@pytest.mark.parametrize(
    ("fields", "num_frames", "latent_frames"),
    [
        ({}, 25, 7),  # the default of 24 is not 1 more than a multiple of 8
        ({"frames": 1}, 1, 1),
        ({"frames": 9}, 9, 3),
        ({"frames": 49}, 49, 13),
        ({"duration_seconds": 2.0, "fps": 8}, 17, 5),
        ({"duration_seconds": 0.01}, 1, 1),
    ],
)
def test_latent_frames_follow_from_the_number_of_video_frames(
    fields: dict[str, object], num_frames: int, latent_frames: int
) -> None:
    planned = plan_for(COMPRESSED_VIDEO_MODEL, **fields)
    assert (planned.num_frames, planned.latent_frames) == (num_frames, latent_frames)
    assert planned.header.total_frames == latent_frames


def test_without_temporal_compression_each_video_frame_is_a_latent_frame() -> None:
    planned = plan_for(VIDEO_MODEL)
    assert (planned.num_frames, planned.latent_frames) == (24, 24)


@pytest.mark.parametrize(("num_frames", "nearest"), [(2, 1), (8, 9), (24, 25), (20, 17)])
def test_unsupported_number_of_frames_is_rejected_with_the_nearest(num_frames: int, nearest: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"^frames: .* multiple of 8, e\.g\. {nearest}, got {num_frames}$"):
        plan_for(COMPRESSED_VIDEO_MODEL, frames=num_frames)


def test_default_number_of_frames_does_not_exceed_the_limit() -> None:
    limited = replace(COMPRESSED_VIDEO_MODEL, limits=RequestLimits(max_frames=20))
    assert plan_for(limited).num_frames == 17
    assert plan_for(limited, duration_seconds=0.8).num_frames == 17
    assert probe_request(limited, Modality.VIDEO, "x", 0).num_frames == 9


def test_video_fields_are_rejected_for_images() -> None:
    for field, value in {"fps": 8, "frames": 3, "duration_seconds": 1.0, "keyframe_interval": 2}.items():
        with pytest.raises(InvalidRequest, match=f"^{field}: is only allowed for video-latents"):
            plan_for(MODEL, **{field: value})


@pytest.mark.parametrize(
    ("model", "fields", "field", "message"),
    [
        (
            MODEL,
            {"image": sample_image(0)},
            "image",
            "is not supported by tiny-sd, which generates image-latents from a prompt",
        ),
        (CONTROLNET_MODEL, {}, "control_image", "is required by tiny-sd"),
        (
            CONTROLNET_MODEL,
            {"control_image": sample_image(0), "image": sample_image(1)},
            "image",
            "is not supported by tiny-sd",
        ),
        (
            CONTROLNET_MODEL,
            {"control_image": sample_image(0), "negative_prompt": "fog"},
            "negative_prompt",
            "is not supported by tiny-sd",
        ),
        (IMG2IMG_MODEL, {"strength": 0.5}, "strength", "is not supported by tiny-sd for image-latents from a prompt"),
        (IMG2IMG_MODEL, {"image": sample_image(0), "strength": 0.0}, "strength", "greater than 0"),
        (IMG2IMG_MODEL, {"image": sample_image(0), "strength": 1.5}, "strength", "less than or equal to 1"),
        (
            STEPPED_MODEL,
            {"image": sample_image(0), "strength": 0.1, "steps": 5},
            "strength",
            "at least 1/steps = 0.2",
        ),
        (STEPPED_MODEL, {"steps": 41}, "steps", "must be from 3 to 40 for the scheduler of tiny-sd, got 41"),
        (STEPPED_MODEL, {"image": sample_image(0), "steps": 41}, "steps", "must be from 3 to 40 .*, got 41"),
        (IMG2IMG_MODEL, {"image": b"GIF89a"}, "image", "must be a PNG, JPEG or WebP image"),
    ],
)
def test_missing_unsupported_or_invalid_input_is_rejected(
    model: ModelInfo, fields: dict[str, object], field: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        plan_for(model, **fields)
    assert caught.value.field == field


def test_strength_has_a_default_only_with_an_input_image() -> None:
    assert plan_for(IMG2IMG_MODEL).strength is None
    planned = plan_for(IMG2IMG_MODEL, image=sample_image(0))
    assert planned.strength == 0.8
    assert planned.image is not None
    assert (planned.image.format, planned.image.width) == ("png", 256)


def test_repr_of_a_plan_omits_image_data() -> None:
    assert "PNG" not in repr(plan_for(IMG2IMG_MODEL, image=sample_image(0)))
