"""Conversion of masks in the format of OpenAI's API to masks for diffusers.

In the format of OpenAI's API, the transparent pixels of a mask mark the area that is repainted.
"""

import io
import warnings

from codec_wire.errors import InvalidRequest
from core.input_image import InputImage

_WITH_ALPHA = ("RGBA", "LA", "PA")


def mask_from_alpha(file: InputImage) -> bytes:
    """Return a PNG mask that is white where `file` is transparent, and black where `file` is opaque.

    Raises InvalidRequest for the field `mask` if the file is broken or has no alpha channel.
    """
    from PIL import Image, ImageChops  # noqa: PLC0415 - a gateway has no Pillow

    from core.diffusers_engine.image_metadata import orientation_of, upright, without_metadata  # noqa: PLC0415

    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(without_metadata(file)), formats=[file.format]) as image,
        ):
            if (image.width, image.height) != (file.width, file.height):
                raise InvalidRequest(
                    "mask",
                    f"must have the size that its header states, {file.width}x{file.height}, got "
                    f"{image.width}x{image.height}",
                )
            if image.mode not in _WITH_ALPHA and "transparency" not in image.info:
                raise InvalidRequest(
                    "mask",
                    "must have an alpha channel, which marks the pixels to repaint, got a "
                    f"{file.format} image of mode {image.mode}",
                )
            alpha = upright(image.convert("RGBA").getchannel("A"), orientation_of(file))
    # Pillow's decoders raise all of these for broken files.
    except (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError) as error:
        raise InvalidRequest("mask", f"is a broken {file.format} file: {error or type(error).__name__}") from None
    result = io.BytesIO()
    ImageChops.invert(alpha).save(result, "PNG", compress_level=1)
    return result.getvalue()
