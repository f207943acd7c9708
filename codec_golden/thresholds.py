"""Quality thresholds for a latent-space map. A threshold is the worst measured result, relaxed by a fixed margin."""

import math
from collections.abc import Iterable, Mapping

from codec_golden.gate import Row

ROUNDING_PSNR_DB = 48.1
"""PSNR in dB of an image in which every value differs from the reference by one level, with levels from 0 to 255.

The number is 20 log10(255), rounded down. Measured PSNR values are capped at this number, because another decoder may
round differently.
"""
ROUNDING_SSIM = 0.99
"""SSIM that a flat area may have if every value in the area differs from the reference by one level. Measured SSIM
values are capped at this number."""
PSNR_MARGIN_DB = 1.0
SSIM_MARGIN = 0.01
LPIPS_MARGIN = 0.01
"""PSNR_MARGIN_DB, SSIM_MARGIN and LPIPS_MARGIN allow for the effect of another device, thread count or decoder."""


def compute_thresholds(rows: Iterable[Row], suite: str) -> dict[str, Mapping[str, float | str]]:
    """Return the `quality_thresholds` of a map, a dictionary of bounds by the name of the encoding pipeline.

    A bound is the worst result of all fixtures, relaxed by a margin. Before the margin is subtracted, SSIM is capped at
    ROUNDING_SSIM, and PSNR is capped at ROUNDING_PSNR_DB. `lpips_max` is omitted if LPIPS was not measured for every
    fixture.
    """
    by_pipeline: dict[str, list[Row]] = {}
    for row in rows:
        by_pipeline.setdefault(row.pipeline, []).append(row)
    return {name: _bounds(pipeline_rows, suite) for name, pipeline_rows in by_pipeline.items()}


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
