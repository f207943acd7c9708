"""The table of encoding pipelines.

To add an encoding pipeline that combines existing scales, widths and residuals, add a row to the table. No code outside
the table depends on the names of encoding pipelines.
"""

from dataclasses import dataclass
from enum import Enum
from math import prod


class Scales(Enum):
    """Origin of the per-channel scales of an encoding pipeline."""

    NONE = "none"
    STATIC = "static"
    """The scales are from the latent-space map and are sent only once, in the stream header."""
    PER_KEYFRAME = "per keyframe"
    """The scales are computed for every keyframe, and are sent before the values of the keyframe."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Specification of an encoding pipeline.

    `bits` is the number of bits of a quantized value, or None if values are not quantized. If `delta` is true, frames
    that are not keyframes contain residuals relative to the last keyframe.
    """

    name: str
    scales: Scales
    bits: int | None
    delta: bool

    @property
    def max_code(self) -> int:
        """Largest quantized value Q (127 or 7), or 0 if values are not quantized."""
        return 0 if self.bits is None else 2 ** (self.bits - 1) - 1

    @property
    def video_only(self) -> bool:
        """Whether the encoding pipeline is available only for videos."""
        return self.delta

    def values_size(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Return the size in bytes of the values of one frame. `itemsize` is the size of the latent dtype in bytes."""
        count = prod(shape)
        return count * itemsize if self.bits is None else (count * self.bits + 7) // 8

    def frame_size(self, shape: tuple[int, ...], itemsize: int, *, keyframe: bool) -> int:
        """Return the size in bytes of the `data` of one frame, including the scales if the frame contains scales."""
        with_scales = self.scales is Scales.PER_KEYFRAME and keyframe
        return self.values_size(shape, itemsize) + (2 * shape[0] if with_scales else 0)


PIPELINES: dict[str, Pipeline] = {
    spec.name: spec
    for spec in (
        Pipeline("raw", Scales.NONE, bits=None, delta=False),
        Pipeline("int8", Scales.STATIC, bits=8, delta=False),
        Pipeline("int4", Scales.STATIC, bits=4, delta=False),
        Pipeline("int8-adaptive", Scales.PER_KEYFRAME, bits=8, delta=False),
        Pipeline("int4-adaptive", Scales.PER_KEYFRAME, bits=4, delta=False),
        Pipeline("delta+int8", Scales.PER_KEYFRAME, bits=8, delta=True),
        Pipeline("delta+int4", Scales.PER_KEYFRAME, bits=4, delta=True),
    )
}
"""Encoding pipelines, keyed by name."""
