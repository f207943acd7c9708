"""Decodes the pictures that come with a request, within bounds checked before."""

import io
import warnings
from typing import TYPE_CHECKING

from codec_wire.errors import InvalidRequest
from core.input_image import MAX_IMAGE_PIXELS, InputImage
from core.plan import StreamPlan

if TYPE_CHECKING:
    from PIL.Image import Image


def decoded_pictures(plan: StreamPlan) -> "dict[str, Image]":
    """Return the pictures that came with `plan`, in its size, by the field they came in. Raises InvalidRequest."""
    files = {"image": plan.image, "control_image": plan.control_image}
    return {field: decoded(field, file, (plan.width, plan.height)) for field, file in files.items() if file is not None}


def decoded(field: str, file: InputImage, size: tuple[int, int]) -> "Image":
    """Return the picture as RGB of `size` (width, height): scaled and cut about its middle, never stretched.

    Raises InvalidRequest naming the request's `field` where the file is broken.
    """
    from PIL import Image, ImageOps  # noqa: PLC0415 - a gateway has no Pillow

    try:
        # Pillow warns of large pictures and of odd metadata. The bounds are ours.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(file.data), formats=[file.kind]) as opened:
            if opened.width * opened.height > MAX_IMAGE_PIXELS:
                raise InvalidRequest(field, f"holds {opened.width}x{opened.height} pixels, its header said otherwise")
            upright = ImageOps.exif_transpose(opened).convert("RGB")
            return ImageOps.fit(upright, size, Image.Resampling.LANCZOS)
    # Its decoders raise whatever they meet.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, Image.DecompressionBombError) as error:
        raise InvalidRequest(field, f"is a broken {file.kind}: {error or type(error).__name__}") from None
