"""The result of the quality gate as one HTML file with images, for readers who do not know the metrics."""

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
    difference_image,
    enlarged_url,
    most_different_region,
    thumbnail_url,
)
from codec_golden.result_table import COLUMNS, bits_text, bounds_text, metric_text
from codec_golden.storage import GoldenFixture
from codec_wire.version import SERVER_VERSION
from core.pins import pinned_versions

INVISIBLE_LEVELS = 3
"""Largest difference of a pixel value that is not visible, in levels from 0 to 255."""
VISIBLE_LEVELS = 8
"""Differences above this number of levels (of 255) may be visible if the different pixels form a shape."""
FEW, SOME, MANY = 0.001, 0.05, 0.25
"""Limits of the fraction of pixels that differ visibly. The wording of the report changes at each of the three
limits."""


@dataclass(frozen=True, slots=True)
class RowView:
    """A row of the result, in the form that the template of the report needs. Images are data URLs.

    `thumbnails` and `details` have the keys `reference`, `decoded` and `difference`. `frame` is the CSS of a border
    around the region that `details` shows. If the images are identical, `frame` is empty.
    """

    row: Row
    summary: str
    expanded: bool
    bits: str
    bounds: str
    metrics: list[tuple[str, str]]
    thumbnails: dict[str, str]
    details: dict[str, str]
    frame: str


@dataclass(frozen=True, slots=True)
class RegionComparison:
    """Enlarged images of the same region of one frame, one for every encoding pipeline.

    `parts` contains pairs of a caption and a data URL.
    """

    number: int
    thumbnail: str
    frame: str
    parts: list[tuple[str, str]]


def render_report(result: EvaluationResult) -> str:
    """Return the report as a self-contained HTML document."""
    template = _template()
    sections = [
        {
            "golden": golden,
            "size": _describe_size(golden),
            "rows": [_row_view(row) for row in rows],
            "comparison": _compare_region(rows),
        }
        for golden in result.fixtures
        if (rows := [row for row in result.rows if row.fixture == golden.key])
    ]
    text: str = template.render(
        result=result,
        sections=sections,
        notes=result.notes,
        raw_bytes={row.fixture: row.wire_bytes for row in result.rows if row.pipeline == "raw"},
        pins=pinned_versions(),
        version=SERVER_VERSION,
        amplification=AMPLIFICATION,
        region_side=REGION_SIDE,
        visible_levels=VISIBLE_LEVELS,
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
    return size if fixture.kind == "image" else f"{size}, {fixture.frames} frames at {fixture.fps} per second"


def _row_view(row: Row) -> RowView:
    reference, decoded = row.reference[row.worst_frame], row.images[row.worst_frame]
    images = {"reference": reference, "decoded": decoded, "difference": difference_image(reference, decoded)}
    region = most_different_region(reference, decoded)
    return RowView(
        row=row,
        summary=describe_difference(reference, decoded) if row.measured else "Images of different sizes: not compared.",
        expanded=not row.passed or _visible_share(reference, decoded) >= FEW,
        bits=bits_text(row),
        bounds=bounds_text(row),
        metrics=[(title, text) for name, (title, _) in COLUMNS.items() if (text := metric_text(row, name))],
        thumbnails={name: thumbnail_url(image) for name, image in images.items()},
        details={name: enlarged_url(region.crop(image)) for name, image in images.items()},
        frame=region.style(reference) if (reference != decoded).any() else "",
    )


def _compare_region(rows: Sequence[Row]) -> RegionComparison | None:
    """Return a comparison of the region that changed most in the row with the lowest SSIM.

    Return None if fewer than two rows are measured.
    """
    measured = [row for row in rows if row.measured]
    if len(measured) < 2:
        return None
    worst = min(measured, key=lambda row: row.measured["ssim"])
    number = worst.worst_frame
    reference = worst.reference[number]
    region = most_different_region(reference, worst.images[number])
    parts = [("reference", enlarged_url(region.crop(reference)))]
    for row in measured:
        caption = f"{row.pipeline}, {row.wire_bytes} bytes" if row.wire_bytes else row.pipeline
        parts.append((caption, enlarged_url(region.crop(row.images[number]))))
    return RegionComparison(number, thumbnail_url(reference), region.style(reference), parts)


def _max_channel_difference(reference: RgbImage, image: RgbImage) -> RgbImage:
    """Return an array [height, width] with the largest difference of the three channels at each pixel."""
    largest: RgbImage = np.abs(reference.astype(np.int16) - image).max(axis=2)
    return largest


def _visible_share(reference: RgbImage, image: RgbImage) -> float:
    return float((_max_channel_difference(reference, image) > VISIBLE_LEVELS).mean())


def describe_difference(reference: RgbImage, image: RgbImage) -> str:
    """Return a description of the difference between two images, based only on the sizes of the pixel differences."""
    difference, share = _max_channel_difference(reference, image), _visible_share(reference, image)
    if not difference.any():
        return "Identical to the reference."
    numbers = f"Mean difference {difference.mean():.1f} of 255 levels, maximum {difference.max()}."
    if difference.max() <= INVISIBLE_LEVELS:
        return f"No visible differences. {numbers}"
    if share < FEW:
        return f"Almost no visible differences. {numbers}"
    where = "in a few places" if share < SOME else "in many places" if share < MANY else "everywhere"
    return f"Differences visible on close inspection {where}: {share:.1%} of the pixels. {numbers}"
