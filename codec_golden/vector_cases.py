"""The inputs of the conformance vectors, and how each travels.

They come from sha256 and integer arithmetic alone, so that they are the same for ever and everywhere.
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
"""Not 1 and not the stream's length: a residual against the frame before shows, and so does a missed keyframe."""
STATIC_SCALE = 2.5
"""Under the largest values of the inputs, so that codes saturate."""


@dataclass(frozen=True, slots=True)
class Case:
    """One input. `shape` is a frame's; `frames` above 1 make a video."""

    name: str
    shape: tuple[int, ...]
    frames: int
    dtype: LatentDtype

    @property
    def is_video(self) -> bool:
        """Whether it has more than a frame."""
        return self.frames > 1


CASES = (
    Case("image", (4, 8, 8), 1, LatentDtype.FP16),
    Case("odd", (3, 3, 5), 1, LatentDtype.FP16),
    Case("image-fp32", (4, 8, 8), 1, LatentDtype.FP32),
    Case("rounding", (4, 16, 16), 2, LatentDtype.FP16),
    Case("video", (4, 4, 4), 6, LatentDtype.FP16),
)
ROUNDING_SCALES = (6.890625, 3.96875, 7.890625, 7.765625)
"""Scales at which fp16 values are found whose codes depend on how it is computed: halves of a step at 7 and 127, and
quotients that come out otherwise where x * (Q / s) is taken for x / s * Q. Most scales have none."""
_TIES = (0.5, 1.5, 2.5, -0.5, -1.5, 6.5, 0.0, -0.0)
"""Codes of int4 that lie between two, in units of a step: halves go to the even neighbour."""


def inputs(case: Case) -> NDArray[Any]:
    """Return the latents of a case, [frames, *shape] in its dtype.

    Values lie in -4…4, but for a few. The first channel is all zeros in the last frame, the second one begins with
    halves of a step of int4, and of four channels the third one holds subnormal fp16 numbers in the first frame.
    """
    count = case.frames * int(np.prod(case.shape))
    stream = b"".join(hashlib.sha256(f"{case.name} {number}".encode()).digest() for number in range(count // 16 + 1))
    words = np.frombuffer(stream, "<u2")[:count].astype(np.int64) - 2**15
    values = (words.astype(np.float64) / 2**13).astype(case.dtype.numpy).reshape(case.frames, *case.shape)
    flat = values.reshape(case.frames, case.shape[0], -1)
    if case.name == "rounding":
        _write_rounding_cases(flat)
        return values
    flat[-1, 0] = 0
    flat[:, 1, : len(_TIES)] = _TIES
    flat[:, 1, len(_TIES)] = 7  # the channel's largest value, so that a step is 1
    if case.shape[0] > 3:
        flat[0, 2] *= case.dtype.numpy.type(2.0**-22)
    return values


def _write_rounding_cases(flat: NDArray[Any]) -> None:
    """Let each channel begin with its scale, the largest value, and then with all that is hard to round beside it."""
    for channel, scale in enumerate(ROUNDING_SCALES):
        hard = [value for max_code in (7, 127) for value in rounding_sensitive_values(scale, max_code)]
        beginning = [scale, *hard, *(-value for value in hard)]
        np.clip(flat[:, channel], -scale, scale, out=flat[:, channel])
        flat[0, channel, : len(beginning)] = beginning
        flat[1:, channel, : len(beginning)] = beginning[::-1]


def rounding_sensitive_values(scale: float, max_code: int) -> list[float]:
    """Return the fp16 values, rising, from 0 to `scale` whose code changes where it is computed in another way.

    The other ways are halves away from zero, and x * (Q / s).
    """
    halves = np.arange(1, 2**15, dtype=np.uint16).view(np.float16)
    values = halves[halves <= scale].astype(np.float32)
    largest, divisor = np.float32(max_code), np.float32(scale)
    ratio = values / divisor * largest
    codes = np.rint(ratio)
    found = (codes != np.floor(ratio + np.float32(0.5))) | (codes != np.rint(values * (largest / divisor)))
    return [float(value) for value in values[found]]


def stream_plan(case: Case, row: Pipeline) -> FixtureStream:
    """Return how a case travels by a pipeline."""
    scales = ROUNDING_SCALES if case.name == "rounding" else (STATIC_SCALE,) * case.shape[0]
    static = np.array(scales, "<f2").tobytes() if row.scales is Scales.STATIC else None
    header = LatentStreamHeader(
        latent_space_id=LATENT_SPACE,
        shape=case.shape,
        dtype=case.dtype,
        pipeline=row.name,
        scales=static,
        fps=24 if case.is_video else None,
        total_frames=case.frames,
    )
    return FixtureStream(header, tuple(not row.delta or seq % KEYFRAME_INTERVAL == 0 for seq in range(case.frames)))


def case_pipelines() -> Iterator[tuple[Case, Pipeline]]:
    """Yield every case with every pipeline that can carry it."""
    for case in CASES:
        yield from ((case, row) for row in PIPELINES.values() if case.is_video or not row.video_only)
