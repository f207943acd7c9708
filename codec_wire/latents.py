"""The two messages of a latent stream, free of any envelope. Constructing one checks it."""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, prod

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import MalformedMessage, truncated_repr
from codec_wire.pipelines.table import PIPELINES, Pipeline, Scales

MAX_UINT32 = 2**32 - 1
_FP16_INFINITY = 0x7C00
MAX_VALUES = 2**28
"""Values in one frame: a bound far above any latent, so that a hostile header cannot ask for all memory."""


class LatentDtype(StrEnum):
    """Number format that latents are cast to before any pipeline runs.

    bf16 is not one of them: deployed clients would read it as fp16.
    """

    FP16 = "fp16"
    FP32 = "fp32"

    @property
    def numpy(self) -> np.dtype[np.float16] | np.dtype[np.float32]:
        """The little-endian NumPy dtype."""
        return np.dtype("<f2") if self is LatentDtype.FP16 else np.dtype("<f4")


class Modality(StrEnum):
    """What a stream shows."""

    IMAGE = "image-latents"
    VIDEO = "video-latents"


class FinishReason(StrEnum):
    """Why a stream ended."""

    OK = "ok"
    LENGTH = "length"
    STOP = "stop"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LatentStreamHeader:
    """First message of a stream.

    `shape` is one frame's, channel first, without a batch axis; `scales` holds one little-endian fp16 per channel;
    `fps` is in frames per second; an absent optional field is None and is left out on the wire.
    Raises MalformedMessage naming the field that breaks the contract.
    """

    latent_space_id: str
    shape: tuple[int, ...]
    dtype: LatentDtype
    pipeline: str
    scales: bytes | None = None
    fps: int | None = None
    total_frames: int | None = None
    vae_scale_factor: float | None = None

    def __post_init__(self) -> None:
        if not self.latent_space_id:
            raise MalformedMessage("latent_space_id is empty")
        if len(self.shape) < 2 or not all(1 <= size <= MAX_UINT32 for size in self.shape):
            raise MalformedMessage(f"shape must hold two or more sizes of at least 1, got {truncated_repr(self.shape)}")
        if prod(self.shape) > MAX_VALUES:
            raise MalformedMessage(f"shape {truncated_repr(self.shape)} holds more than {MAX_VALUES} values")
        if self.pipeline not in PIPELINES:
            raise MalformedMessage(
                f"pipeline must be one of {', '.join(PIPELINES)}, got {truncated_repr(self.pipeline)}"
            )
        self._check_scales()
        for name, number in (("fps", self.fps), ("total_frames", self.total_frames)):
            if number is not None and not 1 <= number <= MAX_UINT32:
                raise MalformedMessage(f"{name} must be from 1 to {MAX_UINT32}, got {truncated_repr(number)}")
        if self.vae_scale_factor is not None and not (isfinite(self.vae_scale_factor) and self.vae_scale_factor > 0):
            raise MalformedMessage(f"vae_scale_factor must be positive and finite, got {self.vae_scale_factor}")

    def _check_scales(self) -> None:
        static = self.pipeline_spec.scales is Scales.STATIC
        if (self.scales is not None) != static:
            rule = "needs scales in the header" if static else "takes no scales in the header"
            raise MalformedMessage(f"pipeline {self.pipeline} {rule}")
        if self.scales is not None:
            parse_scales(self.scales, self.shape[0])

    @property
    def pipeline_spec(self) -> Pipeline:
        """The pipeline's row in the registry."""
        return PIPELINES[self.pipeline]


@dataclass(frozen=True, slots=True)
class LatentFrame:
    """One frame as its pipeline made it. `seq` counts from 0; `finish_reason` may stand on the last frame alone.

    Raises MalformedMessage naming the field that breaks the contract.
    """

    data: bytes
    seq: int
    keyframe: bool
    done: bool
    finish_reason: FinishReason | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.seq <= MAX_UINT32:
            raise MalformedMessage(f"seq must be from 0 to {MAX_UINT32}, got {truncated_repr(self.seq)}")
        if self.finish_reason is not None and not self.done:
            raise MalformedMessage(f"finish_reason {self.finish_reason} on a frame that is not the last")


def parse_scales(data: bytes | memoryview, channels: int) -> NDArray[np.float16]:
    """Return the `channels` fp16 scales that `data` holds, read-only.

    Raises MalformedMessage when the size is wrong or a scale is negative, NaN or infinite.
    """
    if len(data) != 2 * channels:
        raise MalformedMessage(f"scales of {channels} channels take {2 * channels} bytes, got {len(data)}")
    bits = np.frombuffer(data, dtype="<u2")
    if bits.max() >= _FP16_INFINITY:  # those of NaN, of Inf and of whatever has the sign bit are not below it
        raise MalformedMessage("a scale is negative, NaN or infinite")
    scales: NDArray[np.float16] = bits.view("<f2")
    return scales
