"""Events of a latent stream while it is generated or received."""

from dataclasses import dataclass
from typing import TypeAlias

from codec_wire.latents import LatentFrame, LatentStreamHeader


@dataclass(frozen=True, slots=True)
class Started:
    """First event of every generation: sampling starts, and the header can be sent."""

    header: LatentStreamHeader


@dataclass(frozen=True, slots=True)
class Step:
    """The sampler has finished `index` of `total` steps."""

    index: int
    total: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the stream."""

    frame: LatentFrame


StreamEvent: TypeAlias = Started | Step | Frame
