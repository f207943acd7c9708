"""Decoding of the image or video file of an encode request to pixels in the size that the plan requires."""

import numpy as np
from numpy.typing import NDArray

from codec_pixels.video_reader import read_video
from codec_wire.errors import InvalidRequest
from core.diffusers_engine.input_images import decode_input_image
from core.encode_plan import FILE_FIELD, EncodePlan
from core.input_image import InputImage


def read_input_frames(plan: EncodePlan) -> NDArray[np.uint8]:
    """Return the image or the video frames in the file of `plan` as RGB pixels, uint8 [num_frames, height, width, 3].

    Each frame is scaled until the frame covers the size in the plan, and then cropped around the centre of the frame.
    Raises InvalidRequest if the file is broken or contains fewer frames than the header of the file states.
    """
    if isinstance(plan.file, InputImage):
        return np.asarray(decode_input_image(FILE_FIELD, plan.file, (plan.width, plan.height)))[np.newaxis]
    try:
        pixels = read_video(plan.file.data, plan.width, plan.height, plan.num_frames)
    except ValueError as error:
        raise InvalidRequest(FILE_FIELD, f"is a broken mp4 file: {error}") from None
    if len(pixels) < plan.num_frames:
        announced = plan.file.num_frames
        raise InvalidRequest(
            FILE_FIELD,
            f"is a broken mp4 file: its header states {announced} frames, but the file contains {len(pixels)}",
        )
    return pixels
