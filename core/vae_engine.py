"""The interface between the service and the engine that runs the VAE of a model."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from codec_wire.events import Frame, Started
from codec_wire.latents import LatentFrame
from core.decode_plan import DecodePlan
from core.encode_plan import EncodePlan
from core.engine import Job


class VaeEngine(Protocol):
    """Decodes latents to pixels, and encodes pixels to latents.

    Implementations: the VAE of a local pipeline, a remote gRPC server, the fake of the tests.
    """

    def decode(self, plan: DecodePlan, frames: Sequence[LatentFrame], job: Job) -> AsyncGenerator[bytes, None]:
        """Yield the pixels of `frames`, all frames of a valid stream, in the format of the plan.

        RGB, PNG, JPEG and WebP are one item per image or video frame. MP4 is one file in chunks of any size. Raises a
        CodecError on failure. Closing the iterator cancels `job`; the engine stops after the current frame.
        """

    def encode(self, plan: EncodePlan, job: Job) -> AsyncGenerator[Started | Frame, None]:
        """Yield the header of the plan, and then the frames of its file.

        The same file and plan always give the same frames. Raises InvalidRequest if the file is broken, another
        CodecError on failure. A failure after Started raises too. Closing the iterator cancels `job`.
        """
