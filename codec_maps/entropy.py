"""Order-0 entropy of frame data.

No coder that uses only the frequencies of symbols reaches a smaller size than this entropy.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.pipelines import Scales


def entropy_bound(header: LatentStreamHeader, frames: Iterable[LatentFrame]) -> float:
    """Return the size in bytes to which an ideal order-0 coder would compress the values of `frames` (Shannon 1948).

    The size in bits is the number of symbols multiplied by the entropy in bits per symbol. Frequencies are counted in
    each frame separately. Symbols are bytes for 8-bit pipelines and nibbles for 4-bit pipelines. For pipelines that do
    not quantize, the first bytes of all values form one sequence of symbols, the second bytes another, and so on. The
    size does not include scales and the encoding of messages.
    """
    return sum(_entropy_bits(symbols) for frame in frames for symbols in _symbols(header, frame)) / 8


def _symbols(header: LatentStreamHeader, frame: LatentFrame) -> list[NDArray[np.uint8]]:
    spec, channels = header.pipeline_spec, header.shape[0]
    has_scales = spec.scales is Scales.PER_KEYFRAME and frame.keyframe
    values = np.frombuffer(frame.data, np.uint8, offset=2 * channels if has_scales else 0)
    if spec.bits is None:
        size = header.dtype.numpy.itemsize
        return [values[offset::size] for offset in range(size)]
    if spec.bits == 4:
        return [np.concatenate([values & 0x0F, values >> 4])]
    return [values]


def _entropy_bits(symbols: NDArray[np.uint8]) -> float:
    counts = np.bincount(symbols)
    probabilities = counts[counts > 0] / max(symbols.size, 1)
    return float(-(probabilities * np.log2(probabilities)).sum() * symbols.size)
