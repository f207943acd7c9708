"""Pixels as PNG, JPEG or WebP."""

import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.media.parameters import KEYWORD, SOFTWARE, Parameters, as_json

PictureFormat = Literal["png", "jpeg", "webp"]
BEST_QUALITY = 100

_EXIF_DESCRIPTION, _EXIF_SOFTWARE = 0x010E, 0x0131
_EXIF_MAX_BYTES = 60_000
"""A JPEG holds one EXIF block of 64 KiB; what does not fit is left out."""


def encode_picture(
    pixels: NDArray[np.uint8],
    picture_format: PictureFormat,
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
        texts.add_itxt(KEYWORD, as_json(parameters))
        arguments = {"pnginfo": texts}
    else:
        exif = Image.Exif()
        exif[_EXIF_SOFTWARE] = SOFTWARE
        description = as_json(parameters, ascii_only=True)
        if len(description) <= _EXIF_MAX_BYTES:
            exif[_EXIF_DESCRIPTION] = description
        arguments = {"exif": exif, "quality": quality}
        if picture_format == "jpeg":
            arguments["subsampling"] = "4:4:4"  # colours as sharp as the rest
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, picture_format, **arguments)
    return file.getvalue()
