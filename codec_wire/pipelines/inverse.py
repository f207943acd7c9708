"""From a frame's bytes back to codes and values. NumPy alone: whoever decodes may have no torch."""

import numpy as np
from numpy.typing import NDArray

from codec_wire.errors import MalformedMessage


def unpack(data: bytes | memoryview, bits: int, channels: int, per_channel: int) -> NDArray[np.int8]:
    """Return the codes [channels, per_channel] that `data` holds, the inverse of `pack`.

    `data` has the exact size. Raises MalformedMessage on a code outside [-Q, Q] or an odd tail that is not 0.
    """
    count = channels * per_channel
    if bits == 8:
        codes = np.frombuffer(data, dtype=np.int8)
        forbidden = -128
    else:
        packed = np.frombuffer(data, dtype=np.uint8)
        nibbles = np.empty((packed.size, 2), dtype=np.int8)
        # An arithmetic shift right carries the sign of the nibble that was moved to the top.
        nibbles[:, 0] = (packed << 4).view(np.int8) >> 4
        nibbles[:, 1] = packed.view(np.int8) >> 4
        codes = nibbles.reshape(-1)
        if count % 2 and codes[-1] != 0:
            raise MalformedMessage("the unused high nibble of the last byte is not 0")
        codes = codes[:count]
        forbidden = -8
    if count and codes.min() == forbidden:
        raise MalformedMessage(f"a code is {forbidden}, codes lie from {forbidden + 1} to {-forbidden - 1}")
    return codes.reshape(channels, per_channel)


def add_residual(key: NDArray[np.int8], residual: NDArray[np.int8], max_code: int) -> NDArray[np.int8]:
    """Return clip(key + residual, -Q, Q)."""
    total = key.astype(np.int16)
    total += residual
    return np.clip(total, -max_code, max_code, out=total).astype(np.int8)


def dequantize(codes: NDArray[np.int8], scales: NDArray[np.float16], max_code: int) -> NDArray[np.float32]:
    """Return float32(code) * scale / Q for codes [channels, n] and scales [channels], in that order of operations."""
    values = codes.astype(np.float32)
    values *= scales.astype(np.float32)[:, np.newaxis]
    values /= np.float32(max_code)
    return values
