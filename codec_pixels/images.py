"""Encoding of images as PNG, JPEG and WebP, and of short animations as GIF and WebP."""

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
"""Maximum size of the EXIF description in bytes. A description above the maximum size is left out, because JPEG limits
EXIF blocks to 64 KiB."""


def encode_image(
    pixels: NDArray[np.uint8],
    image_format: ImageFormat,
    parameters: Parameters,
    quality: int = BEST_QUALITY,
) -> bytes:
    """Return `pixels`, uint8 RGB [height, width, 3], as an image file.

    `quality` is a number from 0 to 100 that applies only to JPEG and WebP. PNG is lossless and contains the parameters
    as JSON in an iTXt chunk. JPEG and WebP contain the parameters in the EXIF tag ImageDescription. Parameters that
    exceed the maximum size of an EXIF block are left out.
    """
    from PIL import Image, PngImagePlugin  # noqa: PLC0415 - a gateway does not have Pillow

    arguments: dict[str, Any]
    if image_format == "png":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Software", SOFTWARE)
        texts.add_itxt(KEYWORD, to_json(parameters))
        arguments = {"pnginfo": texts}
    else:
        arguments = {"exif": _exif_of(parameters), "quality": quality}
        if image_format == "jpeg":
            arguments["subsampling"] = "4:4:4"  # full colour resolution
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format, **arguments)
    return file.getvalue()


def encode_animation(
    pixels: NDArray[np.uint8], animation_format: AnimationFormat, fps: int, parameters: Parameters
) -> bytes:
    """Return `pixels`, uint8 RGB [frames, height, width, 3], as an endless animation with `fps` frames per second.

    A WebP animation has the highest lossy quality. Like a WebP image, a WebP animation contains the parameters in the
    EXIF data. A GIF animation has 256 colours per frame and contains the parameters as JSON in the comment of the GIF
    file.
    """
    from PIL import Image  # noqa: PLC0415 - a gateway does not have Pillow

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
    from PIL import Image  # noqa: PLC0415 - a gateway does not have Pillow

    exif = Image.Exif()
    exif[_EXIF_SOFTWARE] = SOFTWARE
    description = to_json(parameters, ascii_only=True)
    if len(description) <= _EXIF_MAX_BYTES:
        exif[_EXIF_DESCRIPTION] = description
    return exif
