"""The inputs of the conformance vectors, and how each travels.

They come from sha256 and integer arithmetic alone, so that they are the same for ever and everywhere.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.latents import LatentDtype, LatentStreamHeader
from core.pipelines import PIPELINES, Pipeline, Scales
from golden.wire import FixtureStream

LATENT_SPACE = "vectors/small"
KEYFRAME_INTERVAL = 4
"""Not 1 and not the stream's length: a residual against the frame before shows, and so does a keyframe that is missed."""
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
    Case("video", (4, 4, 4), 6, LatentDtype.FP16),
)
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
    flat[-1, 0] = 0
    flat[:, 1, : len(_TIES)] = _TIES
    flat[:, 1, len(_TIES)] = 7  # the channel's largest value, so that a step is 1
    if case.shape[0] > 3:
        flat[0, 2] *= case.dtype.numpy.type(2.0**-22)
    return values


def plan_of(case: Case, row: Pipeline) -> FixtureStream:
    """Return how a case travels by a pipeline."""
    static = np.full(case.shape[0], STATIC_SCALE, "<f2").tobytes() if row.scales is Scales.STATIC else None
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


def pairs() -> Iterator[tuple[Case, Pipeline]]:
    """Yield every case with every pipeline that can carry it."""
    for case in CASES:
        yield from ((case, row) for row in PIPELINES.values() if case.is_video or not row.video_only)
