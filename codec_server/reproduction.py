"""Comparison of a file with its reproduction, which states what differs and by how much."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_THREADS = re.compile(r"(?P<device>.*), (?P<threads>\d+) threads")


@dataclass(frozen=True, slots=True)
class ValueDifference:
    """Difference between two arrays of `total` values. `maximum` is the largest absolute difference.

    `psnr_db` is the peak signal-to-noise ratio of 8-bit pixels in dB, or None for latents.
    """

    different: int
    total: int
    maximum: float
    psnr_db: float | None = None


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The result of generating a file again.

    The dictionary `parameters` contains the recorded value and the current value of each parameter that differs, by
    name. A missing parameter has the value None. `values` is the difference between the pixels or latents of the two
    files, or None if the files are equal or have different shapes.
    """

    equal: bool
    parameters: Mapping[str, tuple[Any, Any]]
    values: ValueDifference | None = None


def parameter_differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the recorded and the current value of each parameter that differs, as a dictionary of tuples by name.

    The device, the number of threads and the version of each library count as separate parameters.
    """
    before, after = _expanded(recorded), _expanded(now)
    names = dict.fromkeys((*before, *after))
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def latent_difference(recorded: NDArray[Any], now: NDArray[Any]) -> ValueDifference | None:
    """Return the difference of two arrays of latents, or None if their shapes differ."""
    if recorded.shape != now.shape:
        return None
    difference = np.abs(recorded.astype(np.float64) - now.astype(np.float64))
    return ValueDifference(int(np.count_nonzero(difference)), difference.size, float(difference.max()))


def pixel_difference(recorded: NDArray[np.uint8], now: NDArray[np.uint8]) -> ValueDifference | None:
    """Return the difference of two arrays of 8-bit pixels, or None if their shapes differ."""
    found = latent_difference(recorded, now)
    if found is None or not found.different:
        return found
    squares = np.square(recorded.astype(np.float64) - now.astype(np.float64)).mean()
    return ValueDifference(found.different, found.total, found.maximum, float(10 * np.log10(255**2 / squares)))


def _expanded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    expanded = {name: value for name, value in parameters.items() if name not in ("device", "versions")}
    device = str(parameters.get("device", ""))
    match = _THREADS.fullmatch(device)
    if match is not None:
        expanded |= {"device": match["device"], "threads": int(match["threads"])}
    elif device:
        expanded["device"] = device
    for item in filter(None, str(parameters.get("versions", "")).split(", ")):
        name, _, version = item.partition("=")
        expanded[name] = version
    return expanded
