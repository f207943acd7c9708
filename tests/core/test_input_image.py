"""Pictures are measured by their first bytes alone, as Pillow measures them; what is none is refused."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codec_wire.errors import InvalidRequest
from core.diffusers_engine.input_images import decoded
from core.input_image import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, InputImage, read_input_image
from core.probe import sample_image


def file_of(kind: str, size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 100 if mode == "L" else "orange").save(buffer, kind, **options)
    return buffer.getvalue()


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    kind=st.sampled_from(["png", "jpeg", "webp"]),
    mode=st.sampled_from(["RGB", "L"]),
    options=st.sampled_from(
        [{}, {"progressive": True}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0"}]
    ),
)
def test_sizes_are_what_pillow_says(width: int, height: int, kind: str, mode: str, options: dict[str, object]) -> None:
    found = read_input_image("image", file_of(kind, (width, height), mode, **options))
    assert (found.kind, found.width, found.height) == (kind, width, height)
    assert decoded("image", found, (16, 24)).size == (16, 24)


@given(st.sampled_from(["png", "jpeg", "webp"]), st.integers(0, 400), st.binary(max_size=60))
def test_whatever_is_broken_is_refused_and_never_more(kind: str, at: int, noise: bytes) -> None:
    data = file_of(kind, (24, 16))
    broken = data[:at] + noise
    try:
        found = read_input_image("image", broken)
        decoded("image", found, (16, 16))
    except InvalidRequest as error:
        assert error.field == "image"
        assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "must be a picture"),
        (b"<svg/>", "must be a picture"),
        (file_of("gif", (4, 4)), "must be a picture"),
        (b"\x89PNG\r\n\x1a\n", "broken png"),
        (b"\xff\xd8\xff", "broken jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "broken webp"),
        (b"\x89PNG\r\n\x1a\n" + bytes(MAX_IMAGE_BYTES), "at most 8388608 bytes, got 8388616"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_reason(data: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        read_input_image("image", data)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_header_that_promises_too_much_is_refused_before_decoding(kind: str) -> None:
    if kind == "png":
        bomb = bytearray(sample_image(0, 8))
        bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    elif kind == "jpeg":
        bomb = bytearray(file_of("jpeg", (8, 8)))
        at = bomb.index(b"\xff\xc0")
        bomb[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    else:
        bomb = bytearray(file_of("webp", (8, 8), lossless=True))
        bomb[21:25] = (0x3FFF | 0x3FFF << 14).to_bytes(4, "little")
    with pytest.raises(InvalidRequest, match=f"at most {MAX_IMAGE_PIXELS} pixels"):
        read_input_image("image", bytes(bomb))


def test_a_webp_whose_frame_is_larger_than_its_canvas_is_refused() -> None:
    """The canvas is small, the frame behind it is not: whoever believes the first bytes unpacks the second."""
    inner = file_of("webp", (4000, 4000), lossless=True)
    canvas = (15).to_bytes(3, "little") * 2
    extended = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + canvas
    body = b"WEBP" + extended + inner[12:]
    data = b"RIFF" + len(body).to_bytes(4, "little") + body
    found = read_input_image("image", data)
    assert (found.width, found.height) == (16, 16)
    with pytest.raises(InvalidRequest, match="broken webp"):
        decoded("image", found, (16, 16))


def test_pictures_are_cut_about_the_middle_and_stand_upright() -> None:
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("lime", (100, 0, 200, 100))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    cut = np.asarray(decoded("image", read_input_image("image", buffer.getvalue()), (64, 64)))
    assert (cut[:, 16:-16] == (0, 255, 0)).all()  # the filter reaches over the edges

    exif = Image.Exif()
    exif[0x0112] = 6  # it was taken with the camera on its side
    buffer = io.BytesIO()
    halves = Image.new("RGB", (64, 64), "black")
    halves.paste("white", (0, 0, 32, 64))
    halves.save(buffer, "PNG", exif=exif)
    upright = np.asarray(decoded("image", read_input_image("image", buffer.getvalue()), (64, 64)))
    assert upright[8].mean() > 200
    assert upright[-8].mean() < 50


def test_a_file_is_not_shown_in_messages() -> None:
    assert repr(InputImage(b"secret", "png", 4, 5)) == "InputImage(png, 4x5, 6 bytes)"
