"""Decoding of the input images and latents of a request.

The headers of the inputs were validated when the request was planned.
"""

import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Any

from codec_wire.errors import InvalidRequest
from codec_wire.pipelines import torch_math
from core.diffusers_engine.image_metadata import orientation_of, upright, without_metadata
from core.diffusers_engine.rgb import to_rgb
from core.input_image import MAX_IMAGE_PIXELS, InputImage
from core.input_latents import decode_input_latents
from core.plan import StreamPlan

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_inputs(plan: StreamPlan) -> dict[str, Any]:
    """Return the decoded inputs of `plan` as a dictionary whose keys are field names in INPUT_FIELDS.

    Images are scaled and cropped to the size in the plan. A mask is converted to a greyscale image. If the plan has
    input latents, the value of the key `image` is a tensor [1, C, h, w] with the input latents. The pipelines of
    diffusers expect input latents in the argument `image`. Raises InvalidRequest if an input is broken.
    """
    files = {"image": plan.image, "control_image": plan.control_image, "mask": plan.mask}
    size = (plan.width, plan.height)
    inputs: dict[str, Any] = {
        field: decode_input_image(field, file, size) for field, file in files.items() if file is not None
    }
    if plan.mask is not None:
        inputs["mask"] = inputs["mask"].convert("L")
    if plan.latents is not None:
        inputs["image"] = torch_math.to_tensor(decode_input_latents(plan.latents)).unsqueeze(0)
    return inputs


def decode_input_image(field: str, file: InputImage, size: tuple[int, int]) -> "Image":
    """Return the image in `file` as an RGB image of `size`.

    The image is scaled without distortion, and cropped around the centre. `size` is (width, height) in pixels. The
    image is rotated and mirrored as the EXIF orientation requires. All metadata except the EXIF orientation are
    ignored, even broken metadata. The function `to_rgb` converts the colours of the image. Raises InvalidRequest if the
    file is broken. The InvalidRequest names the request field `field`.
    """
    from PIL import Image, ImageOps  # noqa: PLC0415 - a gateway has no Pillow

    try:
        # Pillow warns about large images and unusual metadata. The size limit is checked below.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(without_metadata(file)), formats=[file.format]) as image,
        ):
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise InvalidRequest(
                    field,
                    f"must have at most {MAX_IMAGE_PIXELS} pixels, got an image of {image.width}x{image.height}, "
                    f"although the file header states {file.width}x{file.height}",
                )
            return ImageOps.fit(upright(to_rgb(image), orientation_of(file)), size, Image.Resampling.LANCZOS)
    # Pillow's decoders raise all of these for broken files.
    except (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError) as error:
        raise _broken(field, file, error) from None
    except (struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise _broken(field, file, error) from None


def _broken(field: str, file: InputImage, error: Exception) -> InvalidRequest:
    from PIL import UnidentifiedImageError  # noqa: PLC0415 - a gateway has no Pillow

    # The text of UnidentifiedImageError contains the address of a Python object.
    reason = "its content cannot be identified" if isinstance(error, UnidentifiedImageError) else str(error)
    return InvalidRequest(field, f"is a broken {file.format} file: {reason or type(error).__name__}")
