"""What a request must bring, and how many pictures a video may have."""

from dataclasses import replace

import pytest

from codec_wire.errors import InvalidRequest
from codec_wire.latents import Modality
from codec_wire.request import parse_request
from core.model import GenerationMode, ModelInfo, RequestLimits
from core.plan import StreamPlan, plan
from core.probe import sample_image
from tests.support.serving import MODEL, VIDEO_MODEL, bundle_of

COMPRESSED = replace(VIDEO_MODEL, temporal_factor=4, frame_multiple=8)
EITHER = replace(
    MODEL,
    forms=(GenerationMode(Modality.IMAGE), GenerationMode(Modality.IMAGE, image=True, strength=True)),
)
FOLLOWING = replace(MODEL, forms=(GenerationMode(Modality.IMAGE, control_image=True, negative_prompt=False),))


def planned(model: ModelInfo, **fields: object) -> StreamPlan:
    values = {"prompt": "x", "size": (64, 64), "modality": model.modalities[0]} | fields
    return plan(parse_request(values), bundle_of(model), model)


@pytest.mark.parametrize(
    ("fields", "pictures", "frames"),
    [
        ({}, 25, 7),  # 24 is none that this model makes
        ({"frames": 1}, 1, 1),
        ({"frames": 9}, 9, 3),
        ({"frames": 49}, 49, 13),
        ({"duration_seconds": 2.0, "fps": 8}, 17, 5),
        ({"duration_seconds": 0.01}, 1, 1),
    ],
)
def test_pictures_and_the_latent_frames_they_take(fields: dict[str, object], pictures: int, frames: int) -> None:
    made = planned(COMPRESSED, **fields)
    assert (made.pictures, made.frames, made.header.total_frames) == (pictures, frames, frames)


@pytest.mark.parametrize(("asked", "near"), [(2, 1), (8, 9), (24, 25), (20, 17)])
def test_a_number_that_the_vae_cannot_make_is_refused_with_the_nearest(asked: int, near: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"^frames: .* multiple of 8, e\.g\. {near}, got {asked}$"):
        planned(COMPRESSED, frames=asked)


def test_defaults_stay_below_the_limit() -> None:
    few = replace(COMPRESSED, limits=RequestLimits(max_frames=20))
    assert planned(few).pictures == 17
    assert planned(few, duration_seconds=0.8).pictures == 17


def test_without_compression_a_latent_frame_is_a_picture() -> None:
    made = planned(VIDEO_MODEL)
    assert (made.pictures, made.frames) == (24, 24)


@pytest.mark.parametrize(
    ("model", "fields", "field", "words"),
    [
        (MODEL, {"image": sample_image(0)}, "image", "is not taken: tiny-sd makes image-latents from a prompt"),
        (FOLLOWING, {}, "control_image", "is required"),
        (FOLLOWING, {"control_image": sample_image(0), "image": sample_image(1)}, "image", "is not taken"),
        (FOLLOWING, {"control_image": sample_image(0), "negative_prompt": "fog"}, "negative_prompt", "not taken"),
        (EITHER, {"strength": 0.5}, "strength", "is not taken for image-latents from a prompt"),
        (EITHER, {"image": sample_image(0), "strength": 0.0}, "strength", "greater than 0"),
        (EITHER, {"image": sample_image(0), "strength": 1.5}, "strength", "less than or equal to 1"),
        (EITHER, {"image": sample_image(0), "strength": 0.1, "steps": 5}, "strength", "at least 1/steps, here 0.2"),
        (EITHER, {"image": b"GIF89a"}, "image", "must be a picture"),
    ],
)
def test_what_a_form_does_not_take_is_refused(
    model: ModelInfo, fields: dict[str, object], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        planned(model, **fields)
    assert caught.value.field == field


def test_the_form_follows_from_what_came() -> None:
    assert planned(EITHER).strength is None
    made = planned(EITHER, image=sample_image(0))
    assert (made.form, made.strength) == ((Modality.IMAGE, True, False), 0.8)
    assert made.image is not None
    assert (made.image.kind, made.image.width) == ("png", 256)
    assert b"PNG" not in repr(made).encode()
