"""Conversion of input images of every Pillow mode to RGB, and images whose metadata are broken."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers.utils import load_image
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core.diffusers_engine.input_images import decode_input_image
from core.diffusers_engine.rgb import to_rgb
from core.input_image import read_input_image

IMAGES = Path(__file__).parent / "images"
SIZE = (4, 2)


def decode(data: bytes, size: tuple[int, int]) -> Any:
    return np.asarray(decode_input_image("image", read_input_image("image", data), size))


def png(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 100, (100, 100, 100)),
        ("P", 1, None),
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("RGBA", (200, 100, 50, 0), (0, 0, 0)),
        ("RGBA", (200, 100, 50, 255), (200, 100, 50)),
        ("RGBA", (200, 100, 50, 51), (40, 20, 10)),
        ("RGBX", (200, 100, 50, 0), (200, 100, 50)),
        ("LA", (200, 51), (40, 40, 40)),
        ("PA", (0, 0), (0, 0, 0)),
        ("RGBa", (40, 20, 10, 51), (40, 20, 10)),
        ("La", (40, 51), (40, 40, 40)),
        ("I", 257 * 90, (90, 90, 90)),
        ("I", -5, (0, 0, 0)),
        ("I", 1 << 20, (255, 255, 255)),
        ("I;16", 257 * 90, (90, 90, 90)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16B", 257 * 90, (90, 90, 90)),
        ("I;16L", 257 * 90, (90, 90, 90)),
        ("F", 90.0, (90, 90, 90)),
        ("F", float("nan"), (0, 0, 0)),
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
        ("CMYK", (255, 255, 255, 255), (0, 0, 0)),
        ("YCbCr", (100, 128, 128), (100, 100, 100)),
        ("HSV", (0, 0, 100), (100, 100, 100)),
        ("LAB", (255, 128, 128), (255, 255, 255)),
    ],
)
def test_every_mode_is_converted_to_its_8_bit_colour(mode: str, color: Any, expected: Any) -> None:
    image = Image.new(mode, SIZE, color)
    converted = to_rgb(image)
    assert (converted.mode, converted.size) == ("RGB", SIZE)
    reference = np.asarray(image.convert("RGB")) if expected is None else np.full((2, 4, 3), expected)
    assert np.abs(np.asarray(converted).astype(int) - reference).max() <= 1, np.asarray(converted)[0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_opaque_8_bit_images_equal_those_of_diffusers(mode: str) -> None:
    values = np.random.default_rng(1).integers(0, 256, (*SIZE[::-1], 3), np.uint8)
    image = Image.fromarray(values).convert(mode)
    assert np.array_equal(np.asarray(to_rgb(image)), np.asarray(load_image(image.copy())))


def test_16_bit_greyscale_png_is_divided_by_257() -> None:
    data = (IMAGES / "gray16.png").read_bytes()
    pixels = decode(data, (64, 64))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.rint(np.asarray(image).astype(float) / 257)
    assert np.array_equal(pixels, np.repeat(expected[..., np.newaxis], 3, axis=2))
    assert pixels.mean() == pytest.approx(127.5, abs=0.01)


def test_transparent_palette_entry_is_composited_on_black() -> None:
    image = Image.new("P", SIZE, 0)
    image.putpalette([200, 100, 50, 1, 2, 3])
    image.putpixel((0, 0), 1)
    pixels = decode(png(image, transparency=0), SIZE)
    assert (pixels[0, 0].tolist(), pixels[1, 1].tolist()) == ([1, 2, 3], [0, 0, 0])


def test_orientation_is_applied_if_another_tag_has_the_wrong_type() -> None:
    data = (IMAGES / "exif.jpg").read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB").transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(decode(data, (32, 64)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_image_of_pillow(orientation: int) -> None:
    values = np.random.default_rng(2).integers(0, 256, (6, 8, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = png(Image.fromarray(values), exif=exif)
    from PIL import ImageOps

    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image)
        assert expected is not None
        assert np.array_equal(decode(data, expected.size), np.asarray(expected))


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\0" * 50, b"Exif\0\0garbage"],
)
def test_broken_exif_does_not_reject_an_image(image_format: str, exif: bytes) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 200, 30)).save(buffer, image_format, exif=exif, quality=100)
    assert np.abs(decode(buffer.getvalue(), (8, 8)).astype(int) - (10, 200, 30)).max() <= 6


def test_broken_colour_profile_and_text_do_not_reject_an_image() -> None:
    info = PngInfo()
    info.add(b"iCCP", b"x\0\0not compressed")
    info.add(b"zTXt", b"k\0\0not compressed")
    info.add(b"pHYs", struct.pack(">I", 1))
    assert decode(png(Image.new("RGB", (8, 8), (10, 200, 30)), pnginfo=info), (8, 8))[0, 0].tolist() == [10, 200, 30]


def test_metadata_that_stop_pillow_do_not_reject_an_image() -> None:
    info = PngInfo()
    info.add(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**21)))  # above Pillow's limit for a text
    data = png(Image.new("RGB", (8, 8), (10, 200, 30)), pnginfo=info)
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(data)).load()
    assert decode(data, (8, 8))[0, 0].tolist() == [10, 200, 30]
