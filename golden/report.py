"""The gate's findings as one HTML file with pictures, for somebody who has never heard of SSIM."""

import base64
import io
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from core import SERVER_VERSION
from core.pins import pinned_versions
from golden.folder import Golden
from golden.judging import Judgement
from golden.table import COLUMNS, bits_of, bounds_of, cell
from golden.verify import Row

WHOLE = 320
"""Longest side of a whole picture in the report, in pixels."""
DETAIL = 64
"""Side of the part that is shown enlarged, in pixels."""
ENLARGED = 320
AMPLIFIED = 8
"""How many times a difference is brightened."""

NOT_SEEN = 3
"""A difference of so many levels of 255, which nobody sees."""
SEEN = 8
"""One of more than that may be seen, where it has a shape."""

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Shown:
    """One row as the report shows it: texts, and pictures as data addresses."""

    row: Row
    words: str
    opened: bool
    bits: str
    bounds: str
    metrics: list[tuple[str, str]]
    whole: dict[str, str]
    detail: dict[str, str]


def html_of(found: Judgement) -> str:
    """Return the report: one file that needs no other."""
    template = _template()
    sections = [
        {"golden": golden, "what": _described(golden), "rows": [_shown(row) for row in _rows_of(found, golden)]}
        for golden in found.fixtures
    ]
    text: str = template.render(
        found=found,
        sections=[section for section in sections if section["rows"]],
        notes=found.notes,
        raw_bytes={row.fixture: row.wire_bytes for row in found.rows if row.pipeline == "raw"},
        pins=pinned_versions(),
        version=SERVER_VERSION,
        amplified=AMPLIFIED,
        detail=DETAIL,
    )
    return text


@cache
def _template() -> Any:
    source = resources.files("golden").joinpath("report.html.j2").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)


def _rows_of(found: Judgement, golden: Golden) -> list[Row]:
    return [row for row in found.rows if row.fixture == golden.key]


def _described(golden: Golden) -> str:
    fixture = golden.manifest.fixture
    size = f"{fixture.resolution}x{fixture.resolution} pixels"
    return size if fixture.kind == "image" else f"{size}, {fixture.frames} frames at {fixture.fps} a second"


def _shown(row: Row) -> Shown:
    reference, picture = row.reference[row.worst_frame], row.pictures[row.worst_frame]
    difference = np.clip(np.abs(reference.astype(np.int16) - picture) * AMPLIFIED, 0, 255).astype(np.uint8)
    three = {"reference": reference, "arrived": picture, "difference": difference}
    top, left = _most_different(reference, picture)
    parts = {name: one[top : top + DETAIL, left : left + DETAIL] for name, one in three.items()}
    metrics = [(title, text) for name, (title, _) in COLUMNS.items() if (text := cell(row, name))]
    return Shown(
        row=row,
        words=in_words(reference, picture),
        opened=not row.passed or int(difference.max()) > NOT_SEEN * AMPLIFIED,
        bits=bits_of(row),
        bounds=bounds_of(row),
        metrics=metrics,
        whole={name: _address(_at_most(one, WHOLE)) for name, one in three.items()},
        detail={name: _address(_enlarged(one)) for name, one in parts.items()},
    )


def in_words(reference: Picture, picture: Picture) -> str:
    """Return in a sentence how the two pictures differ, from the plain size of the differences alone."""
    apart = np.abs(reference.astype(np.int16) - picture).max(axis=2)
    if not apart.any():
        return "The same picture, to the last pixel."
    share = float((apart > SEEN).mean())
    mean, largest = float(apart.mean()), int(apart.max())
    numbers = f"On average a pixel is off by {mean:.1f} of 255 levels, at most by {largest}."
    if largest <= NOT_SEEN:
        return f"{numbers} Too little to see."
    seen = "hardly any pixel" if share < 0.001 else f"{share:.1%} of all pixels" if share < 0.5 else f"{share:.0%}"
    return f"{numbers} Off by more than {SEEN}, where an eye may begin to see it: {seen}."


def _most_different(reference: Picture, picture: Picture) -> tuple[int, int]:
    """Return the upper left corner of the square of side DETAIL that holds the most difference."""
    apart = np.abs(reference.astype(np.int64) - picture).sum(axis=2)
    sums = np.pad(apart.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    height, width = (min(DETAIL, side) for side in apart.shape)
    within = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(within.argmax()), within.shape)
    return int(top), int(left)


def _at_most(picture: Picture, side: int) -> Image.Image:
    image = Image.fromarray(picture)
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _enlarged(picture: Picture) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    factor = max(1, ENLARGED // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _address(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
