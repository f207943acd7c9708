"""Planning of files that are encoded: sizes, frames, and files that are refused."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from codec_pixels.videos import encode_video
from codec_wire.errors import InvalidRequest
from core.encode_plan import EncodePlan, EncodeRequest, plan_encode
from core.input_video import read_input_video
from tests.support.serving import MODEL, VIDEO_MODEL, bundle_of

VIDEO = encode_video(np.zeros((7, 32, 48, 3), np.uint8), 12, {})


def image(width: int, height: int, image_format: str = "PNG", orientation: int | None = None) -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", (width, height)).save(buffer, image_format, exif=exif)
    return buffer.getvalue()


def plan_for(file: bytes, **fields: object) -> EncodePlan:
    return plan_encode(EncodeRequest(file, **fields), bundle_of(MODEL), MODEL)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(64, 48, (64, 48)), (71, 55, (64, 48)), (5, 9, (8, 8)), (4096, 2048, (2048, 1024)), (2050, 1000, (2048, 992))],
)
def test_default_size_is_that_of_the_file(width: int, height: int, expected: tuple[int, int]) -> None:
    planned = plan_for(image(width, height))
    assert (planned.width, planned.height) == expected
    assert planned.header.shape == (4, expected[1] // 8, expected[0] // 8)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_default_size_of_a_rotated_image_is_that_in_which_it_is_shown(image_format: str) -> None:
    upright, rotated = (plan_for(image(64, 32, image_format, orientation)) for orientation in (3, 6))
    assert (upright.width, upright.height) == (64, 32)
    assert (rotated.width, rotated.height) == (32, 64)


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"size": (0, 64)}, "size"), ({"size": (64, 60)}, "size"), ({"keyframe_interval": -1}, "keyframe_interval")],
)
def test_invalid_field_is_named(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        plan_for(image(64, 64), **fields)


def test_video_is_described_by_its_header() -> None:
    video = read_input_video("file", VIDEO)
    assert (video.width, video.height, video.num_frames, video.fps) == (48, 32, 7, 12)
    planned = plan_encode(EncodeRequest(VIDEO, pipeline="delta+int8"), bundle_of(VIDEO_MODEL), VIDEO_MODEL)
    assert (planned.header.fps, planned.header.total_frames, planned.keyframe_interval) == (12, 7, 24)


def test_frames_that_do_not_fit_the_model_are_left_out() -> None:
    model = replace(MODEL, temporal_factor=4, frame_multiple=4)
    planned = plan_encode(EncodeRequest(VIDEO), bundle_of(MODEL), model)
    assert (planned.num_frames, planned.latent_frames) == (5, 2)


@pytest.mark.parametrize(
    ("file", "fields", "reason"),
    [
        (b"", {}, "must be a PNG, JPEG or WebP image"),
        (VIDEO[:200], {}, "without a video track"),
        (VIDEO[:4] + b"ftyp", {}, "without a video track"),
        (image(64, 64), {"size": (60, 64)}, "must be multiples of 8"),
        (image(64, 64), {"pipeline": "delta+int8"}, "supports only videos"),
        (image(64, 64), {"pipeline": "int9"}, "is unknown"),
    ],
)
def test_invalid_request_names_the_field(file: bytes, fields: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        plan_for(file, **fields)


def test_damaged_boxes_are_refused_or_read_but_never_fail() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(VIDEO)
        for place in rng.integers(0, len(damaged), 8):
            damaged[place] = rng.integers(0, 256)
        try:
            plan_for(bytes(damaged))
        except InvalidRequest:
            continue
