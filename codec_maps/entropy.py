"""The order-0 entropy of what frames carry: what a coder that knows each symbol's frequency, and no more, can reach."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.pipelines import Scales


def entropy_bound(header: LatentStreamHeader, frames: Iterable[LatentFrame]) -> float:
    """Return the bytes that the values of `frames` take at their order-0 entropy, each frame by its own frequencies.

    The symbols are the codes: a byte at 8 bits, half of one at 4. Of values that are not quantized the bytes at each
    place within the value are counted apart. Scales and envelopes are not counted. (Shannon 1948: n·H/8 bytes.)
    """
    return sum(_bits(plane) for frame in frames for plane in _symbols(header, frame)) / 8


def _symbols(header: LatentStreamHeader, frame: LatentFrame) -> list[NDArray[np.uint8]]:
    row, channels = header.row, header.shape[0]
    own_scales = row.scales is Scales.PER_KEYFRAME and frame.keyframe
    values = np.frombuffer(frame.data, np.uint8, offset=2 * channels if own_scales else 0)
    if row.bits is None:
        size = header.dtype.numpy.itemsize
        return [values[place::size] for place in range(size)]
    if row.bits == 4:
        return [np.concatenate([values & 0x0F, values >> 4])]
    return [values]


def _bits(symbols: NDArray[np.uint8]) -> float:
    counts = np.bincount(symbols)
    shares = counts[counts > 0] / max(symbols.size, 1)
    return float(-(shares * np.log2(shares)).sum() * symbols.size)
