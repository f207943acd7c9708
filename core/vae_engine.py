"""The interface between the service and whatever runs the VAE of a model."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from codec_wire.latents import LatentFrame
from core.decode_plan import DecodePlan
from core.engine import Job


class VaeEngine(Protocol):
    """Decodes latents to pixels. Implementations: the VAE of a local pipeline, a remote gRPC server."""

    def decode(self, plan: DecodePlan, frames: Sequence[LatentFrame], job: Job) -> AsyncGenerator[bytes, None]:
        """Yield the pixels of `frames`, all frames of a valid stream, in the format of the plan.

        RGB, PNG, JPEG and WebP are one item per image or video frame. MP4 is one file in chunks of any size.
        Raises a CodecError on failure. Closing the iterator cancels `job`, which takes effect after the current frame.
        """
