"""Pixels as PNG, JPEG or WebP, and as moving pictures without sound that a browser shows by itself: GIF and WebP."""

import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from codec_pixels.parameters import KEYWORD, SOFTWARE, Parameters, to_json

ImageFormat = Literal["png", "jpeg", "webp"]
AnimationFormat = Literal["gif", "webp"]
BEST_QUALITY = 100

_EXIF_DESCRIPTION, _EXIF_SOFTWARE = 0x010E, 0x0131
_EXIF_MAX_BYTES = 60_000
"""A JPEG holds one EXIF block of 64 KiB; what does not fit is left out."""


def encode_image(
    pixels: NDArray[np.uint8],
    picture_format: ImageFormat,
    parameters: Parameters,
    quality: int = BEST_QUALITY,
) -> bytes:
    """Return `pixels`, [height, width, 3] RGB, as a file of that format; `quality`, 0 to 100, is for jpeg and webp.

    PNG gives back the very pixels and holds the parameters as JSON in an iTXt chunk; jpeg and webp hold them in EXIF's
    ImageDescription, unless they are longer than that may be.
    """
    from PIL import Image, PngImagePlugin  # noqa: PLC0415 - a gateway renders nothing and does not have it

    arguments: dict[str, Any]
    if picture_format == "png":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Software", SOFTWARE)
        texts.add_itxt(KEYWORD, to_json(parameters))
        arguments = {"pnginfo": texts}
    else:
        arguments = {"exif": _exif_of(parameters), "quality": quality}
        if picture_format == "jpeg":
            arguments["subsampling"] = "4:4:4"  # colours as sharp as the rest
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, picture_format, **arguments)
    return file.getvalue()


def encode_animation(
    pixels: NDArray[np.uint8], animation_format: AnimationFormat, fps: int, parameters: Parameters
) -> bytes:
    """Return `pixels`, [frames, height, width, 3] RGB, as a file that plays without end, `fps` frames a second.

    WebP has the best lossy quality and holds the parameters as a picture's file does; GIF has 256 colours a frame and
    holds them as JSON in its comment.
    """
    from PIL import Image  # noqa: PLC0415 - a gateway renders nothing and does not have it

    arguments: dict[str, Any]
    if animation_format == "gif":
        arguments = {"comment": to_json(parameters, ascii_only=True).encode()}
    else:
        arguments = {"exif": _exif_of(parameters), "quality": BEST_QUALITY}
    first, *others = (Image.fromarray(frame) for frame in pixels)
    file = io.BytesIO()
    first.save(
        file, animation_format, save_all=True, append_images=others, duration=round(1000 / fps), loop=0, **arguments
    )
    return file.getvalue()


def _exif_of(parameters: Parameters) -> Any:
    from PIL import Image  # noqa: PLC0415 - a gateway renders nothing and does not have it

    exif = Image.Exif()
    exif[_EXIF_SOFTWARE] = SOFTWARE
    description = to_json(parameters, ascii_only=True)
    if len(description) <= _EXIF_MAX_BYTES:
        exif[_EXIF_DESCRIPTION] = description
    return exif
