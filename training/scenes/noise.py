"""One-dimensional value noise for the outlines of ridges, dunes, waves and clouds."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Line = Callable[[Array], Array]

_LATTICE = 512


def value_noise(rng: np.random.Generator, frequency: float, smooth: bool = True) -> Line:
    """Return a random function of the position with values in [-1, 1].

    The function interpolates `frequency` random values per unit: smoothly, or linearly if `smooth` is False. It repeats
    after 512 values.
    """
    knots = rng.uniform(-1, 1, _LATTICE).astype(np.float32)

    def at(position: Array) -> Array:
        scaled = position * np.float32(frequency)
        cell = np.floor(scaled)
        part = scaled - cell
        if smooth:
            part = part * part * (3 - 2 * part)
        index: npt.NDArray[np.int64] = cell.astype(np.int64) % _LATTICE
        left, right = knots[index], knots[(index + 1) % _LATTICE]
        value: Array = (left + (right - left) * part).astype(np.float32)
        return value

    return at


def octaves(rng: np.random.Generator, frequency: float, count: int, gain: float = 0.5, smooth: bool = True) -> Line:
    """Return the sum of `count` value noises, scaled to [-1, 1].

    Each noise has twice the frequency and `gain` times the amplitude of the previous one.
    """
    noises = [value_noise(rng, frequency * 2**level, smooth) for level in range(count)]
    total = sum(gain**level for level in range(count))

    def at(position: Array) -> Array:
        summed = np.zeros_like(position)
        for level, noise in enumerate(noises):
            summed += np.float32(gain**level / total) * noise(position)
        return summed

    return at
