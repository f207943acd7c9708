"""The header message and the frame message of a latent stream, independent of the wire format.

A header or a frame is validated when the object is constructed.
"""

from dataclasses import dataclass, fields
from enum import StrEnum
from math import isfinite, prod

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import MalformedMessage, truncated_repr
from codec_wire.pipelines.table import PIPELINES, Pipeline, Scales

MAX_UINT32 = 2**32 - 1
_FP16_INFINITY = 0x7C00
MAX_VALUES = 2**28
"""Maximum number of values in a frame.

Frames of real models are far smaller than this limit. With this limit, a received header cannot make the receiver
allocate too much memory.
"""


class LatentDtype(StrEnum):
    """Number format to which latents are cast before the encoding.

    bf16 is not supported, because deployed clients decode bf16 as fp16.
    """

    FP16 = "fp16"
    FP32 = "fp32"

    @property
    def numpy(self) -> np.dtype[np.float16] | np.dtype[np.float32]:
        """Little-endian NumPy dtype with this number format."""
        return _FP16 if self is LatentDtype.FP16 else _FP32


_FP16, _FP32 = np.dtype("<f2"), np.dtype("<f4")


class Modality(StrEnum):
    """Kind of content in a latent stream, which is an image or a video."""

    IMAGE = "image-latents"
    VIDEO = "video-latents"


class FinishReason(StrEnum):
    """Reason why a stream ended."""

    OK = "ok"
    LENGTH = "length"
    STOP = "stop"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LatentStreamHeader:
    """First message of a stream.

    `shape` is the shape of one frame, channels first and without a batch axis. `scales` contains the static scales as
    little-endian fp16 numbers, one number per channel. `total_frames` is the number of latent frames. Fields that are
    None are not sent. Raises MalformedMessage if a field is not valid. The error message names the invalid field.
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
            raise MalformedMessage("latent_space_id must not be empty")
        if len(self.shape) < 2 or not all(1 <= size <= MAX_UINT32 for size in self.shape):
            raise MalformedMessage(
                f"shape must have at least two dimensions, each at least 1, got {truncated_repr(self.shape)}"
            )
        if prod(self.shape) > MAX_VALUES:
            raise MalformedMessage(f"shape must have at most {MAX_VALUES} values, got {truncated_repr(self.shape)}")
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
            rule = "are required" if static else "are not allowed"
            raise MalformedMessage(f"scales {rule} in the header for pipeline {self.pipeline}")
        if self.scales is not None:
            parse_scales(self.scales, self.shape[0])

    @property
    def pipeline_spec(self) -> Pipeline:
        """Specification of the encoding pipeline that encodes the frames."""
        return PIPELINES[self.pipeline]


@dataclass(frozen=True, slots=True, init=False)
class LatentFrame:
    """Message that contains one encoded frame.

    `data` contains the bytes to which the stream's encoding pipeline converted the latents. `seq` is the sequence
    number of the frame, counted from 0. `done` is true for the last frame only. Only the last frame may have a
    `finish_reason`. Raises MalformedMessage if a field is not valid. The error message names the invalid field.
    """

    data: bytes
    seq: int
    keyframe: bool
    done: bool
    finish_reason: FinishReason | None = None

    def __init__(
        self, data: bytes, seq: int, keyframe: bool, done: bool, finish_reason: FinishReason | None = None
    ) -> None:
        if not 0 <= seq <= MAX_UINT32:
            raise MalformedMessage(f"seq must be from 0 to {MAX_UINT32}, got {truncated_repr(seq)}")
        if finish_reason is not None and not done:
            raise MalformedMessage(f"finish_reason must be absent if done is false, got {finish_reason}")
        _set_data(self, data)
        _set_seq(self, seq)
        _set_keyframe(self, keyframe)
        _set_done(self, done)
        _set_finish_reason(self, finish_reason)


# The __init__ of a frozen dataclass calls object.__setattr__, which takes twice as long.
_set_data, _set_seq, _set_keyframe, _set_done, _set_finish_reason = (
    vars(LatentFrame)[field.name].__set__ for field in fields(LatentFrame)
)


def parse_scales(data: bytes | memoryview, channels: int) -> NDArray[np.float16]:
    """Return the scales in `data` as a read-only fp16 array [channels].

    Raises MalformedMessage if `data` has the wrong size or a scale is negative, NaN or infinite.
    """
    if len(data) != 2 * channels:
        raise MalformedMessage(f"scales must have {2 * channels} bytes for {channels} channels, got {len(data)}")
    bits = np.frombuffer(data, dtype="<u2")
    if bits.item(bits.argmax()) >= _FP16_INFINITY:  # also true for NaN and for numbers with the sign bit
        raise MalformedMessage("scales must be finite and not negative")
    scales: NDArray[np.float16] = bits.view("<f2")
    return scales
