"""Decoding of the input images of a request, whose file headers were validated before."""

import io
import warnings
from typing import TYPE_CHECKING

from codec_wire.errors import InvalidRequest
from core.input_image import MAX_IMAGE_PIXELS, InputImage
from core.plan import StreamPlan

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_input_images(plan: StreamPlan) -> "dict[str, Image]":
    """Return the input images of `plan` by field name, in the size of the plan. Raises InvalidRequest."""
    files = {"image": plan.image, "control_image": plan.control_image}
    size = (plan.width, plan.height)
    return {field: decode_input_image(field, file, size) for field, file in files.items() if file is not None}


def decode_input_image(field: str, file: InputImage, size: tuple[int, int]) -> "Image":
    """Return an RGB image of `size` (width, height), scaled and cropped around its centre without distortion.

    Raises InvalidRequest naming the request's `field` if the file is broken.
    """
    from PIL import Image, ImageOps  # noqa: PLC0415 - a gateway has no Pillow

    try:
        # Pillow warns about large images and unusual metadata. The size limit is checked below.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(file.data), formats=[file.format]) as image,
        ):
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise InvalidRequest(
                    field,
                    f"must have at most {MAX_IMAGE_PIXELS} pixels: the file header has {file.width}x{file.height}, "
                    f"the image has {image.width}x{image.height}",
                )
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return ImageOps.fit(upright, size, Image.Resampling.LANCZOS)
    # Pillow's decoders raise all of these for broken files.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, Image.DecompressionBombError) as error:
        raise InvalidRequest(field, f"is a broken {file.format} file: {error or type(error).__name__}") from None
