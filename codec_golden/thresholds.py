"""Bounds for a latent-space map, from what was measured: the worst fixture, less a stated head-room."""

import math
from collections.abc import Iterable, Mapping

from codec_golden.gate import Row

ROUNDING_PSNR_DB = 48.1
"""PSNR of a picture in which every value is one level of 255 off, 20 log10(255), rounded down. No decoder that rounds
otherwise can be asked for more, however near our own two pictures are."""
ROUNDING_SSIM = 0.99
"""What such a difference may leave of SSIM in a flat part of a picture."""
PSNR_MARGIN_DB = 1.0
SSIM_MARGIN = 0.01
LPIPS_MARGIN = 0.01
"""Head-room for what another device, thread count or decoder changes on its own."""


def compute_thresholds(rows: Iterable[Row], suite: str) -> dict[str, Mapping[str, float | str]]:
    """Return, by pipeline, what goes into the map's `quality_thresholds`.

    Each is the worst of all fixtures, capped at what rounding allows, less the head-room. `lpips_max` is left out where
    LPIPS was not measured for every fixture.
    """
    by_pipeline: dict[str, list[Row]] = {}
    for row in rows:
        by_pipeline.setdefault(row.pipeline, []).append(row)
    return {name: _bounds(found, suite) for name, found in by_pipeline.items()}


def _bounds(rows: list[Row], suite: str) -> Mapping[str, float | str]:
    ssim = min(ROUNDING_SSIM, *(row.measured["ssim"] for row in rows)) - SSIM_MARGIN
    psnr = min(ROUNDING_PSNR_DB, *(row.measured["psnr_db"] for row in rows)) - PSNR_MARGIN_DB
    bounds: dict[str, float | str] = {
        "ssim_min": max(0.0, math.floor(ssim * 1000) / 1000),
        "psnr_min_db": math.floor(psnr * 10) / 10,
    }
    distances = [row.measured.get("lpips") for row in rows]
    if None not in distances:
        worst = max(distance for distance in distances if distance is not None)
        bounds["lpips_max"] = math.ceil((worst + LPIPS_MARGIN) * 1000) / 1000
    return bounds | {"fixture_suite": suite}
