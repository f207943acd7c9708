"""Inputs of the conformance vectors, and the streams to which the inputs are encoded.

The inputs are computed from sha256 with integer arithmetic only, so that the inputs are identical on every machine.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec_golden.wire import FixtureStream
from codec_wire.latents import LatentDtype, LatentStreamHeader
from codec_wire.pipelines import PIPELINES, Pipeline, Scales

LATENT_SPACE = "vectors/small"
KEYFRAME_INTERVAL = 4
"""Keyframe interval of the videos.

The interval is neither 1 nor the number of frames, so that the vectors detect encoders that omit keyframes. The vectors
also detect encoders that compute residuals relative to the previous frame instead of the keyframe.
"""
STATIC_SCALE = 2.5
"""Static scale of every channel. The scale is smaller than the largest input values, so that codes are clipped."""


@dataclass(frozen=True, slots=True)
class Case:
    """One input of the conformance vectors.

    `shape` is the shape of one latent frame, [C, h, w]. A case is a video if `latent_frames` is above 1.
    """

    name: str
    shape: tuple[int, ...]
    latent_frames: int
    dtype: LatentDtype

    @property
    def is_video(self) -> bool:
        """Whether the case is a video."""
        return self.latent_frames > 1


CASES = (
    Case("image", (4, 8, 8), 1, LatentDtype.FP16),
    Case("odd", (3, 3, 5), 1, LatentDtype.FP16),
    Case("image-fp32", (4, 8, 8), 1, LatentDtype.FP32),
    Case("rounding", (4, 16, 16), 2, LatentDtype.FP16),
    Case("video", (4, 4, 4), 6, LatentDtype.FP16),
)
ROUNDING_SCALES = (6.890625, 3.96875, 7.890625, 7.765625)
"""Scales for which some fp16 values are hard to round with the largest code 7 or 127.

A value is hard to round if the value is exactly halfway between two codes. A value is also hard to round if the code of
the value depends on the order of the division by the scale and the multiplication by the largest code. Most scales have
no values that are hard to round.
"""
_TIES = (0.5, 1.5, 2.5, -0.5, -1.5, 6.5, 0.0, -0.0)
"""Values halfway between two int4 codes, in units of one quantization step.

A value halfway between two codes is rounded to the even code.
"""


def case_latents(case: Case) -> NDArray[Any]:
    """Return the latents of a case, an array [latent_frames, *shape] of the case's dtype.

    Almost all values are in [-4, 4]. The first channel of the last frame is zero. The second channel begins with values
    halfway between int4 codes. In a case with four channels, the third channel of the first frame contains subnormal
    fp16 values.
    """
    count = case.latent_frames * int(np.prod(case.shape))
    stream = b"".join(hashlib.sha256(f"{case.name} {number}".encode()).digest() for number in range(count // 16 + 1))
    words = np.frombuffer(stream, "<u2")[:count].astype(np.int64) - 2**15
    values = (words.astype(np.float64) / 2**13).astype(case.dtype.numpy).reshape(case.latent_frames, *case.shape)
    flat = values.reshape(case.latent_frames, case.shape[0], -1)
    if case.name == "rounding":
        _write_rounding_cases(flat)
        return values
    flat[-1, 0] = 0
    flat[:, 1, : len(_TIES)] = _TIES
    flat[:, 1, len(_TIES)] = 7  # the channel's maximum, which makes a step of int4 equal to 1
    if case.shape[0] > 3:
        flat[0, 2] *= case.dtype.numpy.type(2.0**-22)
    return values


def _write_rounding_cases(flat: NDArray[Any]) -> None:
    """Overwrite the start of each channel with the scale of the channel and with values that are hard to round."""
    for channel, scale in enumerate(ROUNDING_SCALES):
        sensitive = [value for max_code in (7, 127) for value in rounding_sensitive_values(scale, max_code)]
        start = [scale, *sensitive, *(-value for value in sensitive)]
        np.clip(flat[:, channel], -scale, scale, out=flat[:, channel])
        flat[0, channel, : len(start)] = start
        flat[1:, channel, : len(start)] = start[::-1]


def rounding_sensitive_values(scale: float, max_code: int) -> list[float]:
    """Return the positive fp16 values up to `scale` to which an incorrect method of quantization gives a wrong code.

    The values are in ascending order. One incorrect method rounds halves away from zero. Another incorrect method
    divides the largest code by the scale, and multiplies the value by the quotient. The correct method divides the
    value by the scale, and multiplies the quotient by the largest code.
    """
    halves = np.arange(1, 2**15, dtype=np.uint16).view(np.float16)
    values = halves[halves <= scale].astype(np.float32)
    largest, divisor = np.float32(max_code), np.float32(scale)
    ratio = values / divisor * largest
    codes = np.rint(ratio)
    sensitive = (codes != np.floor(ratio + np.float32(0.5))) | (codes != np.rint(values * (largest / divisor)))
    return [float(value) for value in values[sensitive]]


def stream_plan(case: Case, pipeline: Pipeline) -> FixtureStream:
    """Return the header and the keyframes of the stream that encodes a case with `pipeline`."""
    scales = ROUNDING_SCALES if case.name == "rounding" else (STATIC_SCALE,) * case.shape[0]
    static = np.array(scales, "<f2").tobytes() if pipeline.scales is Scales.STATIC else None
    header = LatentStreamHeader(
        latent_space_id=LATENT_SPACE,
        shape=case.shape,
        dtype=case.dtype,
        pipeline=pipeline.name,
        scales=static,
        fps=24 if case.is_video else None,
        total_frames=case.latent_frames,
    )
    keyframes = (not pipeline.delta or seq % KEYFRAME_INTERVAL == 0 for seq in range(case.latent_frames))
    return FixtureStream(header, tuple(keyframes))


def case_pipelines() -> Iterator[tuple[Case, Pipeline]]:
    """Yield every case with every encoding pipeline that supports the modality of the case."""
    for case in CASES:
        yield from ((case, one) for one in PIPELINES.values() if case.is_video or not one.video_only)
