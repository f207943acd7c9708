"""What the gate found, as a table for a terminal and as JSON."""

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from golden.manifest import Environment
from golden.verify import Row

COLUMNS = {
    "ssim": ("SSIM", "{:.4f}"),
    "psnr_db": ("PSNR, dB", "{:.2f}"),
    "lpips": ("LPIPS", "{:.4f}"),
    "temporal_ssim": ("temporal SSIM", "{:.4f}"),
    "vmaf": ("VMAF", "{:.1f}"),
}
VIDEO_ALONE = ("temporal_ssim", "vmaf")


def table_of(rows: Sequence[Row]) -> Table:
    """Return the rows as a table; what is missing says so."""
    video = any("temporal_ssim" in row.measured for row in rows)
    shown = [name for name in COLUMNS if video or name not in VIDEO_ALONE]
    titles = [COLUMNS[name][0] for name in shown]
    title = ", ".join(sorted({row.latent_space for row in rows}))
    table = Table("fixture", "pipeline", "bytes", "bits", *titles, "bounds", "verdict", title=title)
    for row in rows:
        table.add_row(
            row.fixture,
            row.pipeline,
            "" if row.wire_bytes is None else str(row.wire_bytes),
            bits_of(row),
            *(cell(row, name) for name in shown),
            bounds_of(row),
            "[green]pass" if row.passed else "[bold red]FAIL",
        )
    return table


def cell(row: Row, name: str) -> str:
    """Return one metric of a row as text."""
    value = row.measured.get(name)
    if value is not None:
        return "identical" if math.isinf(value) else COLUMNS[name][1].format(value)
    return "not measured" if name in row.not_measured else ""


def bits_of(row: Row) -> str:
    """Return in a word whether the bytes on the wire are right."""
    if row.bits is None:
        return ""
    return "differ" if row.bits else "exact"


def bounds_of(row: Row) -> str:
    """Return the map's bounds for the row as text."""
    bounds = row.thresholds
    if bounds is None:
        return "none"
    parts = [
        *([] if bounds.ssim_min is None else [f"SSIM ≥ {bounds.ssim_min:g}"]),
        *([] if bounds.psnr_min_db is None else [f"PSNR ≥ {bounds.psnr_min_db:g}"]),
        *([] if bounds.lpips_max is None else [f"LPIPS ≤ {bounds.lpips_max:g}"]),
    ]
    return ", ".join(parts) or "none"


def notes_on(rows: Sequence[Row]) -> list[str]:
    """Return, once each, why something is not measured, was missed or differs, and which bounds there are not."""
    notes: dict[str, None] = {}
    for row in rows:
        place = f"{row.fixture} {row.pipeline}"
        for complaint in (*(row.bits or ()), *row.missed):
            notes[f"{place}: {complaint}"] = None
    for row in rows:
        for name, reason in row.not_measured.items():
            notes[f"{COLUMNS[name][0]} is not measured: {reason}"] = None
    without = sorted({row.pipeline for row in rows if row.thresholds is None})
    if without:
        notes[f"the map has no quality_thresholds for {', '.join(without)}: nothing to miss there"] = None
    return list(notes)


def json_of(rows: Sequence[Row], map_hash: str, suites: Sequence[str], environment: Environment | None) -> dict[str, Any]:
    """Return everything that the gate found, for JSON; an infinite PSNR is the string "identical"."""
    return {
        "passed": all(row.passed for row in rows),
        "latent_map": map_hash,
        "fixture_suites": list(suites),
        "environment": environment and environment.model_dump(),
        "rows": [_json_row(row) for row in rows],
    }


def _json_row(row: Row) -> dict[str, Any]:
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
