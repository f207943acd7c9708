"""The interface between the service and the engine that runs the VAE of a model."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from codec_wire.events import Frame, Started
from codec_wire.latents import LatentFrame
from core.decode_plan import DecodePlan
from core.encode_plan import EncodePlan
from core.engine import Job


class VaeEngine(Protocol):
    """Interface of an engine that decodes latents to pixels and encodes pixels to latents.

    The implementations are the VAE of a diffusers pipeline in this process, a remote gRPC server, and the fake of the
    tests.
    """

    def decode(self, plan: DecodePlan, frames: Sequence[LatentFrame], job: Job) -> AsyncGenerator[bytes, None]:
        """Yield the pixels of `frames` in the format of the plan. `frames` contains all frames of a valid stream.

        In the formats RGB, PNG, JPEG and WebP, each item is one image or video frame. In the format MP4, the items are
        chunks of any size that together form one file. Closing the iterator cancels `job`. A cancelled engine stops
        after the current frame. Raises a CodecError if decoding fails.
        """

    def encode(self, plan: EncodePlan, job: Job) -> AsyncGenerator[Started | Frame, None]:
        """Yield the event `Started` with the header of the plan, and then the latent frames.

        The latent frames are encoded from the file in the plan.

        The same plan always results in the same frames. Closing the iterator cancels `job`. Raises InvalidRequest if
        the file is broken. Raises another CodecError if encoding fails for another reason. Errors can also be raised
        after the event `Started` was yielded.
        """
