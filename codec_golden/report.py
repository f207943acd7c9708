"""The gate's findings as one HTML file with pictures, for somebody who has never heard of SSIM."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from codec_golden.evaluation import EvaluationResult
from codec_golden.gate import Row
from codec_golden.report_images import (
    AMPLIFICATION,
    REGION_SIDE,
    RgbImage,
    difference,
    enlarged_url,
    most_different_region,
    whole,
)
from codec_golden.result_table import COLUMNS, bits_text, bounds_text, cell
from codec_golden.storage import GoldenFixture
from codec_wire.version import SERVER_VERSION
from core.pins import pinned_versions

INVISIBLE_LEVELS = 3
"""A difference of so many levels of 255, which nobody sees."""
VISIBLE_LEVELS = 8
"""One of more than that may be seen, where it has a shape."""
FEW, SOME, MANY = 0.001, 0.05, 0.25
"""Shares of a picture's pixels, for the words that say how many of them may be seen to differ."""


@dataclass(frozen=True, slots=True)
class RowView:
    """One row as the report shows it: texts, and pictures as data addresses. `frame` is the CSS of the detail's place.

    It is empty, and there is no detail to show, where the pictures are the same.
    """

    row: Row
    words: str
    opened: bool
    bits: str
    bounds: str
    metrics: list[tuple[str, str]]
    whole: dict[str, str]
    detail: dict[str, str]
    frame: str


@dataclass(frozen=True, slots=True)
class RegionComparison:
    """One part of one frame as every row has it, beside each other: (caption, address)."""

    number: int
    whole: str
    frame: str
    parts: list[tuple[str, str]]


def render_report(found: EvaluationResult) -> str:
    """Return the report: one file that needs no other."""
    template = _template()
    sections = [
        {
            "golden": golden,
            "what": _describe_size(golden),
            "rows": [_row_view(row) for row in rows],
            "spot": _compare_region(rows),
        }
        for golden in found.fixtures
        if (rows := [row for row in found.rows if row.fixture == golden.key])
    ]
    text: str = template.render(
        found=found,
        sections=sections,
        notes=found.notes,
        raw_bytes={row.fixture: row.wire_bytes for row in found.rows if row.pipeline == "raw"},
        pins=pinned_versions(),
        version=SERVER_VERSION,
        amplified=AMPLIFICATION,
        detail=REGION_SIDE,
        seen=VISIBLE_LEVELS,
    )
    return text


@cache
def _template() -> Any:
    source = resources.files("codec_golden").joinpath("report.html.j2").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)


def _describe_size(golden: GoldenFixture) -> str:
    fixture = golden.manifest.fixture
    size = f"{fixture.resolution}x{fixture.resolution} pixels"
    return size if fixture.kind == "image" else f"{size}, {fixture.frames} frames at {fixture.fps} a second"


def _row_view(row: Row) -> RowView:
    reference, picture = row.reference[row.worst_frame], row.pictures[row.worst_frame]
    three = {"reference": reference, "arrived": picture, "difference": difference(reference, picture)}
    part = most_different_region(reference, picture)
    return RowView(
        row=row,
        words=describe_difference(reference, picture) if row.measured else "Pictures of two sizes cannot be compared.",
        opened=not row.passed or _visible_share(reference, picture) >= FEW,
        bits=bits_text(row),
        bounds=bounds_text(row),
        metrics=[(title, text) for name, (title, _) in COLUMNS.items() if (text := cell(row, name))],
        whole={name: whole(one) for name, one in three.items()},
        detail={name: enlarged_url(part.of(one)) for name, one in three.items()},
        frame=part.style(reference) if (reference != picture).any() else "",
    )


def _compare_region(rows: Sequence[Row]) -> RegionComparison | None:
    """Return the spot that changed most in the row that lost most; None where there are no two to compare."""
    alike = [row for row in rows if row.measured]
    if len(alike) < 2:
        return None
    worst = min(alike, key=lambda row: row.measured["ssim"])
    number = worst.worst_frame
    reference = worst.reference[number]
    part = most_different_region(reference, worst.pictures[number])
    captions = [f"{row.pipeline}, {row.wire_bytes} bytes" if row.wire_bytes else row.pipeline for row in alike]
    parts = [(text, enlarged_url(part.of(row.pictures[number]))) for text, row in zip(captions, alike, strict=True)]
    beside = [("as it should look", enlarged_url(part.of(reference))), *parts]
    return RegionComparison(number, whole(reference), part.style(reference), beside)


def _max_channel_difference(reference: RgbImage, picture: RgbImage) -> RgbImage:
    apart: RgbImage = np.abs(reference.astype(np.int16) - picture).max(axis=2)
    return apart


def _visible_share(reference: RgbImage, picture: RgbImage) -> float:
    return float((_max_channel_difference(reference, picture) > VISIBLE_LEVELS).mean())


def describe_difference(reference: RgbImage, picture: RgbImage) -> str:
    """Return in words how the two pictures differ, from the plain size of the differences alone."""
    apart, share = _max_channel_difference(reference, picture), _visible_share(reference, picture)
    if not apart.any():
        return "The same picture, to the last pixel."
    numbers = f"A pixel is off by {apart.mean():.1f} of 255 levels on average, by {apart.max()} at most."
    if apart.max() <= INVISIBLE_LEVELS:
        return f"No difference to be seen. {numbers}"
    if share < FEW:
        return f"Next to no difference to be seen. {numbers}"
    where = "in a few places" if share < SOME else "in many places" if share < MANY else "all over the picture"
    return f"Differences that a close look finds, {where}: {share:.1%} of the pixels. {numbers}"
