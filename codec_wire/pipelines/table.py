"""The closed registry of pipelines: one row each, no behaviour elsewhere depends on a pipeline's name."""

from dataclasses import dataclass
from enum import Enum
from math import prod


class Scales(Enum):
    """Where a pipeline's per-channel scales come from."""

    NONE = "none"
    STATIC = "static"
    """From the latent-space map; once, in the header."""
    PER_KEYFRAME = "per keyframe"
    """From the frame itself; before the values of every keyframe."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One row of the registry. `bits` is the width of a quantized value, None where values travel as they are."""

    name: str
    scales: Scales
    bits: int | None
    delta: bool

    @property
    def max_code(self) -> int:
        """The largest quantized value Q: 127 or 7. Codes lie in [-Q, Q]. 0 where nothing is quantized."""
        return 0 if self.bits is None else 2 ** (self.bits - 1) - 1

    @property
    def video_only(self) -> bool:
        """Whether images cannot use it."""
        return self.delta

    def values_size(self, shape: tuple[int, ...], itemsize: int) -> int:
        """Bytes that the values of one frame of `shape` take; `itemsize` is the latent dtype's, in bytes."""
        count = prod(shape)
        return count * itemsize if self.bits is None else (count * self.bits + 7) // 8

    def frame_size(self, shape: tuple[int, ...], itemsize: int, *, keyframe: bool) -> int:
        """Bytes of a frame's data: its scales, where it carries them, and its values."""
        with_scales = self.scales is Scales.PER_KEYFRAME and keyframe
        return self.values_size(shape, itemsize) + (2 * shape[0] if with_scales else 0)


PIPELINES: dict[str, Pipeline] = {
    row.name: row
    for row in (
        Pipeline("raw", Scales.NONE, bits=None, delta=False),
        Pipeline("int8", Scales.STATIC, bits=8, delta=False),
        Pipeline("int4", Scales.STATIC, bits=4, delta=False),
        Pipeline("int8-adaptive", Scales.PER_KEYFRAME, bits=8, delta=False),
        Pipeline("int4-adaptive", Scales.PER_KEYFRAME, bits=4, delta=False),
        Pipeline("delta+int8", Scales.PER_KEYFRAME, bits=8, delta=True),
        Pipeline("delta+int4", Scales.PER_KEYFRAME, bits=4, delta=True),
    )
}
