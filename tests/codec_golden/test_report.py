"""The HTML report of the gate."""

import re

import numpy as np
import pytest

from codec_golden.evaluation import EvaluationResult
from codec_golden.report import describe_difference, render_report
from codec_golden.report_images import AMPLIFICATION, difference_image, most_different_region

pytestmark = pytest.mark.slow

IMAGE = re.compile(r'src="data:image/png;base64,[^"]+"')


@pytest.fixture(scope="module")
def report(evaluation: EvaluationResult) -> str:
    return render_report(evaluation)


def test_report_contains_images_and_summaries(report: str, evaluation: EvaluationResult) -> None:
    assert report.count("<h3 id=") == len(evaluation.rows)
    # Thumbnails and details: three images each, and the reference again for hovering; then one image per pipeline.
    changed = [row for row in evaluation.rows if row.pipeline != "raw"]
    compared = len(evaluation.rows) + 2 * len(evaluation.fixtures)
    assert len(IMAGE.findall(report)) == 4 * len(evaluation.rows) + 4 * len(changed) + compared
    assert "Identical to the reference." in report
    assert "Differences visible on close inspection" in report
    assert "not measured" in report
    assert evaluation.bundle.hash in report
    assert evaluation.fixtures[0].manifest.fixture.prompt in report


def test_report_is_self_contained(report: str) -> None:
    text = IMAGE.sub("", report)
    assert "http" not in text
    assert "src=" not in text
    assert "url(" not in text


def test_report_compares_one_region_across_pipelines(report: str, evaluation: EvaluationResult) -> None:
    for row in evaluation.rows:
        assert f"<figcaption>{row.pipeline}, {row.wire_bytes} bytes</figcaption>" in report


@pytest.mark.parametrize(
    ("difference", "pixels", "summary"),
    [
        (0, 0, "Identical"),
        (3, 100 * 100, "No visible differences"),
        (40, 5, "Almost no visible differences"),
        (40, 400, "in a few places: 4.0% of the pixels"),
        (40, 1000, "in many places: 10.0% of the pixels"),
        (40, 5000, "everywhere: 50.0% of the pixels"),
    ],
)
def test_summary_depends_on_size_and_number_of_differences(difference: int, pixels: int, summary: str) -> None:
    reference = np.full((100, 100, 3), 100, np.uint8)
    image = reference.copy()
    image.reshape(-1, 3)[:pixels, 1] += difference
    assert summary in describe_difference(reference, image)


def test_most_different_region_contains_the_changed_pixel() -> None:
    reference = np.full((200, 300, 3), 100, np.uint8)
    image = reference.copy()
    image[150, 270] = 90
    region = most_different_region(reference, image)
    assert (region.height, region.width) == (64, 64)
    assert (region.crop(image) == 90).any()
    assert difference_image(reference, image)[150, 270].tolist() == [10 * AMPLIFICATION] * 3
    small = most_different_region(reference[:20], image[:20])
    assert (small.height, small.width) == (20, 64)
