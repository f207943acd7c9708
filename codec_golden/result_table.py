"""The result of the quality gate as a table for a terminal, and as JSON."""

import math
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from codec_golden.gate import Row
from codec_golden.manifest import Environment

COLUMNS = {
    "ssim": ("SSIM", "{:.4f}"),
    "psnr_db": ("PSNR dB", "{:.2f}"),
    "lpips": ("LPIPS", "{:.4f}"),
    "temporal_ssim": ("temporal SSIM", "{:.4f}"),
    "vmaf": ("VMAF", "{:.1f}"),
}
BOUNDS = {"ssim": ("ssim_min", "≥"), "psnr_db": ("psnr_min_db", "≥"), "lpips": ("lpips_max", "≤")}
VIDEO_METRICS = ("temporal_ssim", "vmaf")


def build_table(rows: Sequence[Row]) -> Table:
    """Return a table of the rows.

    A table cell shows a metric in the first line and the bound of the metric in the second line. The table has columns
    for video metrics only if a row has a video metric.
    """
    video = any(name in row.measured or name in row.not_measured for row in rows for name in VIDEO_METRICS)
    metrics = [name for name in COLUMNS if video or name not in VIDEO_METRICS]
    table = Table(box=SIMPLE_HEAD, title=", ".join(sorted({row.latent_space for row in rows})))
    for title in ("fixture", "pipeline"):
        table.add_column(title, no_wrap=True)
    for title in ("bytes", "bits", *(COLUMNS[name][0] for name in metrics), "verdict"):
        table.add_column(title)
    for row in rows:
        table.add_row(
            row.fixture,
            row.pipeline,
            "" if row.wire_bytes is None else str(row.wire_bytes),
            bits_text(row),
            *(metric_text(row, name) + bound_text(row, name) for name in metrics),
            "[green]pass" if row.passed else "[bold red]FAIL",
        )
    return table


def bound_text(row: Row, name: str) -> str:
    """Return the map's bound on a metric as the second line of a table cell, or "" if the map has no bound."""
    field, sign = BOUNDS.get(name, ("", ""))
    bound = getattr(row.thresholds, field, None)
    return "" if bound is None else f"\n{sign} {bound:g}"


def metric_text(row: Row, name: str) -> str:
    """Return the value of a metric as text, or an empty string if the metric does not apply to the row."""
    value = row.measured.get(name)
    if value is not None:
        return "identical" if math.isinf(value) else COLUMNS[name][1].format(value)
    return "not measured" if name in row.not_measured else ""


def bits_text(row: Row) -> str:
    """Return "exact" or "differ" for the encoded bytes, or an empty string if the bytes were not checked."""
    if row.bits is None:
        return ""
    return "differ" if row.bits else "exact"


def bounds_text(row: Row) -> str:
    """Return all bounds of a row in one line."""
    parts = [COLUMNS[name][0] + " " + bound.strip() for name in BOUNDS if (bound := bound_text(row, name))]
    return "; ".join(parts) or "none"


def collect_notes(rows: Sequence[Row]) -> list[str]:
    """Return messages about faults, missed bounds, missing metrics and missing bounds in the rows.

    Each message is returned only once.
    """
    notes: dict[str, None] = {}
    for row in rows:
        for fault in (*(row.bits or ()), *row.missed):
            notes[f"{row.fixture} {row.pipeline}: {fault}"] = None
    for row in rows:
        for name, reason in row.not_measured.items():
            notes[f"{COLUMNS[name][0]} is not measured: {reason}"] = None
        bounds = row.thresholds
        if bounds is not None and bounds.fixture_suite not in (None, row.suite):
            notes[f"the map's bounds were measured with the fixtures {bounds.fixture_suite}, not {row.suite}"] = None
    unbounded = sorted({row.pipeline for row in rows if row.thresholds is None})
    if unbounded:
        notes[f"the metrics of {', '.join(unbounded)} are not checked: the map has no quality_thresholds"] = None
    return list(notes)


def result_json(
    rows: Sequence[Row], notes: Sequence[str], map_hash: str, environment: Environment | None
) -> dict[str, Any]:
    """Return the complete result as JSON-compatible values. An infinite PSNR becomes the string "identical"."""
    return {
        "passed": all(row.passed for row in rows),
        "latent_map": map_hash,
        "fixture_suites": sorted({row.suite for row in rows}),
        "environment": environment and environment.model_dump(),
        "notes": list(notes),
        "rows": [_row_json(row) for row in rows],
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "latent_space": row.latent_space,
        "fixture": row.fixture,
        "pipeline": row.pipeline,
        "passed": row.passed,
        "wire_bytes": row.wire_bytes,
        "bits": None if row.bits is None else ("differ" if row.bits else "exact"),
        "bits_wrong": row.bits or [],
        "metrics": {name: "identical" if math.isinf(value) else value for name, value in row.measured.items()},
        "not_measured": row.not_measured,
        "thresholds": row.thresholds and row.thresholds.model_dump(exclude_none=True),
        "missed": row.missed,
    }
