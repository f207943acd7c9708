"""The report: one file that says in words and pictures what was lost."""

import re

import numpy as np
import pytest

from codec_golden.evaluation import EvaluationResult
from codec_golden.report import describe_difference, render_report
from codec_golden.report_images import AMPLIFICATION, difference, most_different_region

PICTURE = re.compile(r'src="data:image/png;base64,[^"]+"')


@pytest.fixture(scope="module")
def report(judged: EvaluationResult) -> str:
    return render_report(judged)


def test_it_shows_and_says_what_was_lost(report: str, judged: EvaluationResult) -> None:
    assert report.count("<h3 id=") == len(judged.rows)
    # Three pictures whole and three enlarged, each time with the one that the pointer brings; and the same spot of all.
    changed = [row for row in judged.rows if row.pipeline != "raw"]
    beside = len(judged.rows) + 2 * len(judged.fixtures)
    assert len(PICTURE.findall(report)) == 4 * len(judged.rows) + 4 * len(changed) + beside
    assert "The same picture, to the last pixel." in report
    assert "Differences that a close look finds" in report
    assert "not measured" in report
    assert judged.bundle.hash in report
    assert judged.fixtures[0].manifest.fixture.prompt in report


def test_it_needs_no_other_file(report: str) -> None:
    text = PICTURE.sub("", report)
    assert "http" not in text
    assert "src=" not in text
    assert "url(" not in text


def test_every_way_of_sending_stands_beside_the_others(report: str, judged: EvaluationResult) -> None:
    for row in judged.rows:
        assert f"<figcaption>{row.pipeline}, {row.wire_bytes} bytes</figcaption>" in report


@pytest.mark.parametrize(
    ("off", "pixels", "words"),
    [
        (0, 0, "The same picture"),
        (3, 100 * 100, "No difference to be seen"),
        (40, 5, "Next to no difference"),
        (40, 400, "in a few places: 4.0% of the pixels"),
        (40, 1000, "in many places: 10.0% of the pixels"),
        (40, 5000, "all over the picture: 50.0% of the pixels"),
    ],
)
def test_the_words_follow_the_differences(off: int, pixels: int, words: str) -> None:
    reference = np.full((100, 100, 3), 100, np.uint8)
    picture = reference.copy()
    picture.reshape(-1, 3)[:pixels, 1] += off
    assert words in describe_difference(reference, picture)


def test_the_enlarged_part_is_where_most_changed() -> None:
    reference = np.full((200, 300, 3), 100, np.uint8)
    picture = reference.copy()
    picture[150, 270] = 90
    part = most_different_region(reference, picture)
    assert (part.height, part.width) == (64, 64)
    assert (part.of(picture) == 90).any()
    assert difference(reference, picture)[150, 270].tolist() == [10 * AMPLIFICATION] * 3
    small = most_different_region(reference[:20], picture[:20])
    assert (small.height, small.width) == (20, 64)
