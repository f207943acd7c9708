"""Input images: size from the header as Pillow reads it, rejection of invalid files, scaling and cropping."""

import io
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codec_wire.errors import InvalidRequest
from core.diffusers_engine.input_images import decode_input_image
from core.input_image import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, InputImage, read_input_image
from core.probe import sample_image


def file_of(image_format: str, size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 100 if mode == "L" else "orange").save(buffer, image_format, **options)
    return buffer.getvalue()


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    image_format=st.sampled_from(["png", "jpeg", "webp"]),
    mode=st.sampled_from(["RGB", "L"]),
    options=st.sampled_from(
        [{}, {"progressive": True}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0"}]
    ),
)
def test_header_size_is_that_of_pillow(
    width: int, height: int, image_format: str, mode: str, options: dict[str, object]
) -> None:
    found = read_input_image("image", file_of(image_format, (width, height), mode, **options))
    assert (found.format, found.width, found.height) == (image_format, width, height)
    assert decode_input_image("image", found, (16, 24)).size == (16, 24)


@given(st.sampled_from(["png", "jpeg", "webp"]), st.integers(0, 400), st.binary(max_size=60))
def test_broken_file_raises_only_invalid_request(image_format: str, at: int, noise: bytes) -> None:
    data = file_of(image_format, (24, 16))
    broken = data[:at] + noise
    try:
        found = read_input_image("image", broken)
        decode_input_image("image", found, (16, 16))
    except InvalidRequest as error:
        assert error.field == "image"
        assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must be a PNG, JPEG or WebP image"),
        (b"<svg/>", "must be a PNG, JPEG or WebP image"),
        (file_of("gif", (4, 4)), "must be a PNG, JPEG or WebP image"),
        (b"\x89PNG\r\n\x1a\n", "broken png"),
        (b"\xff\xd8\xff", "broken jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "broken webp"),
        (b"\x89PNG\r\n\x1a\n" + bytes(MAX_IMAGE_BYTES), "at most 8388608 bytes, got 8388616"),
    ],
)
def test_invalid_file_is_rejected_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_input_image("image", data)


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_header_with_too_many_pixels_is_rejected_without_decoding(image_format: str) -> None:
    if image_format == "png":
        bomb = bytearray(sample_image(0, 8))
        bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    elif image_format == "jpeg":
        bomb = bytearray(file_of("jpeg", (8, 8)))
        at = bomb.index(b"\xff\xc0")
        bomb[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    else:
        bomb = bytearray(file_of("webp", (8, 8), lossless=True))
        bomb[21:25] = (0x3FFF | 0x3FFF << 14).to_bytes(4, "little")
    with pytest.raises(InvalidRequest, match=f"at most {MAX_IMAGE_PIXELS} pixels"):
        read_input_image("image", bytes(bomb))


@pytest.mark.slow
def test_webp_with_a_frame_larger_than_its_canvas_is_rejected() -> None:
    """The header gives the size of the canvas, which here is smaller than that of the encoded frame."""
    inner = file_of("webp", (4000, 4000), lossless=True)
    canvas = (15).to_bytes(3, "little") * 2
    extended = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + canvas
    body = b"WEBP" + extended + inner[12:]
    data = b"RIFF" + len(body).to_bytes(4, "little") + body
    found = read_input_image("image", data)
    assert (found.width, found.height) == (16, 16)
    with pytest.raises(InvalidRequest, match="broken webp"):
        decode_input_image("image", found, (16, 16))


def test_image_is_cropped_around_its_centre_and_rotated_by_exif() -> None:
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("lime", (100, 0, 200, 100))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    cut = np.asarray(decode_input_image("image", read_input_image("image", buffer.getvalue()), (64, 64)))
    assert (cut[:, 16:-16] == (0, 255, 0)).all()  # the resampling filter blends the edges

    exif = Image.Exif()
    exif[0x0112] = 6  # the orientation of a photograph taken with the camera on its side
    buffer = io.BytesIO()
    halves = Image.new("RGB", (64, 64), "black")
    halves.paste("white", (0, 0, 32, 64))
    halves.save(buffer, "PNG", exif=exif)
    upright = np.asarray(decode_input_image("image", read_input_image("image", buffer.getvalue()), (64, 64)))
    assert upright[8].mean() > 200
    assert upright[-8].mean() < 50


@pytest.mark.parametrize("markers", [b"\xff", b"\xff\x01", b"\xff\xe0\x00\x02"])
def test_jpeg_with_many_markers_before_its_header_is_rejected_in_milliseconds(markers: bytes) -> None:
    real = file_of("jpeg", (24, 16))
    few, many = (real[:2] + markers * count + real[2:] for count in (1_000, 500_000))
    assert read_input_image("image", few).width == 24
    started = time.process_time()
    with pytest.raises(InvalidRequest, match="broken jpeg"):
        read_input_image("image", many)
    assert time.process_time() - started < 0.05


def test_repr_omits_the_file_contents() -> None:
    assert repr(InputImage(b"secret", "png", 4, 5)) == "InputImage(png, 4x5, 6 bytes)"
