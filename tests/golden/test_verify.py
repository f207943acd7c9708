"""The gate on the 256 picture and a short video: what it measures, what it lets through, what it says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from codec_server.cli import app
from codec_wire import WireFormat
from core.maps.document import QualityThresholds
from golden.folder import Golden, frame_name
from golden.judging import Judgement, judge
from golden.metrics import psnr_db, ssim_of_frames, temporal_ssim
from golden.reference import ReferenceModel
from golden.report import html_of
from golden.thresholds import thresholds_from
from golden.verify import missed_bounds
from golden.wire import reconstruction
from tests.support.commands import invoke
from tests.support.reference_model import FLAGS, SUITE, THRESHOLDS, bundle_with, settings_for, write_map

PIPELINES = ["raw", "int8", "int4", "int8-adaptive", "int4-adaptive", "delta+int8", "delta+int4"]


class Silent:
    """Listens to rows, says nothing."""

    def __init__(self, _total: int) -> None: ...
    def __enter__(self) -> Any:
        return lambda _name: None

    def __exit__(self, *_error: object) -> None: ...


@pytest.fixture(scope="module")
def judged(golden_folder: Path, models_dir: Path) -> Judgement:
    return judge(settings_for(models_dir), golden_folder, None, None, None, listener=Silent)


@pytest.fixture(scope="module")
def bounds(judged: Judgement) -> Any:
    return thresholds_from(judged.rows, SUITE)


def test_every_pipeline_has_its_row(judged: Judgement) -> None:
    rows = [(row.fixture, row.pipeline) for row in judged.rows]
    assert rows == [("256", name) for name in PIPELINES[:5]] + [("video-short", name) for name in PIPELINES]
    assert judged.passed
    assert all(row.bits == [] for row in judged.rows)


def test_the_numbers_are_what_the_pipelines_promise(judged: Judgement) -> None:
    by = {(row.fixture, row.pipeline): row for row in judged.rows}
    for fixture in ("256", "video-short"):
        assert by[fixture, "raw"].measured["ssim"] == 1
        assert by[fixture, "raw"].measured["psnr_db"] == float("inf")
        for family in ("int8", "int8-adaptive"):
            assert by[fixture, family].measured["psnr_db"] > by[fixture, family.replace("8", "4")].measured["psnr_db"]
            assert 0.99 < by[fixture, family].measured["ssim"] < 1
    assert by["256", "int8"].wire_bytes == 4250  # 4 x 32 x 32 codes, and two msgpack messages around them
    assert "vmaf" not in by["256", "int8"].measured
    assert by["video-short", "delta+int8"].measured["temporal_ssim"] > 0.9


def test_the_thresholds_are_the_worst_fixture_less_head_room(judged: Judgement, bounds: Any) -> None:
    assert set(bounds) == set(PIPELINES)
    assert bounds["raw"] == {"ssim_min": 0.98, "psnr_min_db": 47.1, "fixture_suite": SUITE}
    worst = min(row.measured["psnr_db"] for row in judged.rows if row.pipeline == "int4")
    assert bounds["int4"]["psnr_min_db"] == pytest.approx(worst - 1, abs=0.1)
    for entry in bounds.values():
        QualityThresholds.model_validate(entry)  # what the map takes


def test_the_gate(tmp_path: Path, golden_folder: Path) -> None:
    """What a release has to pass: the 256 picture and the short video, every pipeline, the map's own bounds."""
    write_map(tmp_path, THRESHOLDS)
    command = ("golden", "verify", golden_folder, *FLAGS, "--models-dir", tmp_path)
    status, output = invoke(*command, "--json", tmp_path / "v.json", "--report", tmp_path / "r.html")
    assert status == 0, output
    assert "int4-adaptive" in output
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["passed"]
    assert len(found["rows"]) == 12
    assert found["fixture_suites"] == [SUITE]
    raw = found["rows"][0]
    assert raw["metrics"] == {"ssim": 1.0, "psnr_db": "identical"}
    assert raw["not_measured"] == {"lpips": "no AlexNet weights are named (--lpips-backbone)"}
    assert raw["thresholds"] == THRESHOLDS["raw"]
    video = found["rows"][-1]
    assert set(video["metrics"]) == {"ssim", "psnr_db", "temporal_ssim", "vmaf"}
    assert "<img" in (tmp_path / "r.html").read_text()


def test_a_missed_bound_is_named_and_exits_with_1(tmp_path: Path, golden_folder: Path) -> None:
    write_map(tmp_path, THRESHOLDS | {"int4": THRESHOLDS["int4"] | {"ssim_min": 0.9999}})
    command = ("golden", "verify", golden_folder, *FLAGS, "--models-dir", tmp_path, "--fixtures", "256")
    status, output = invoke(*command, "--json", tmp_path / "v.json")
    assert status == 1
    assert "256 int4: ssim 0." in output
    failed = [row for row in json.loads((tmp_path / "v.json").read_text())["rows"] if not row["passed"]]
    assert [row["pipeline"] for row in failed] == ["int4"]


def test_the_bounds_in_use_are_those_measured(bounds: Any) -> None:
    """Other processors round otherwise, by far less than this. Else: measure anew, and say why it changed."""
    for name, measured in bounds.items():
        assert measured["ssim_min"] == pytest.approx(THRESHOLDS[name]["ssim_min"], abs=0.005), name
        assert measured["psnr_min_db"] == pytest.approx(THRESHOLDS[name]["psnr_min_db"], abs=0.5), name


def test_the_thresholds_command_writes_what_the_map_takes(
    tmp_path: Path, golden_folder: Path, models_dir: Path
) -> None:
    command = ("golden", "thresholds", golden_folder, "-o", tmp_path / "t.json", *FLAGS, "--models-dir", models_dir)
    status, output = invoke(*command, "--fixtures", "256")
    assert status == 0, output
    written = json.loads((tmp_path / "t.json").read_text())
    assert list(written) == PIPELINES[:5]
    bundle_with(written | dict.fromkeys(PIPELINES[5:], written["raw"]))  # the map takes them


def test_lpips_is_bounded_only_where_it_was_measured() -> None:
    bounds = QualityThresholds(ssim_min=0.9, psnr_min_db=30, lpips_max=0.1)
    assert missed_bounds({"ssim": 0.95, "psnr_db": 31.0}, bounds) == []
    missed = missed_bounds({"ssim": 0.85, "psnr_db": 29.0, "lpips": 0.2}, bounds)
    assert missed == ["ssim 0.8500 is under 0.9", "psnr_db 29.0000 is under 30", "lpips 0.2000 is over 0.1"]
    assert missed_bounds({"ssim": 0.0}, None) == []


def write_pictures(folder: Path, golden: Golden, pipeline: str, pixels: Any) -> None:
    if golden.manifest.fixture.kind == "image":
        (folder / golden.key).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(folder / golden.key / f"{pipeline}.png")
        return
    place = folder / golden.key / pipeline
    place.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(pixels):
        Image.fromarray(frame).save(place / frame_name(number))


def test_another_decoders_pictures_are_judged_from_the_streams_it_was_given(
    tmp_path: Path, golden_folder: Path, goldens: list[Golden], reference: ReferenceModel, bounds: Any
) -> None:
    """The way round that docs/conformance.md describes: streams out, pictures back, a verdict. It needs no model."""
    write_map(tmp_path, bounds)
    streams, theirs = tmp_path / "streams", tmp_path / "theirs"
    status, output = invoke("golden", "streams", golden_folder, "-o", streams, "--models-dir", tmp_path)
    assert status == 0, output
    for golden in goldens:
        for pipeline in ("int8", "int4-adaptive"):
            path = streams / golden.key / f"{pipeline}.protobuf"
            latents = reconstruction(path.read_bytes(), WireFormat.PROTOBUF)
            write_pictures(theirs, golden, pipeline, reference.pixels(latents))
    command = ("golden", "verify", golden_folder, "--pixels", theirs, "--models-dir", tmp_path)
    status, output = invoke(*command, "--json", tmp_path / "v.json", "--report", tmp_path / "r.html")
    assert status == 0, output
    rows = json.loads((tmp_path / "v.json").read_text())["rows"]
    assert [(row["fixture"], row["pipeline"]) for row in rows] == [
        (fixture, pipeline) for fixture in ("256", "video-short") for pipeline in ("int8", "int4-adaptive")
    ]
    assert rows[0]["bits"] is None

    write_pictures(theirs, goldens[0], "int8", 255 - goldens[0].pixels())  # a decoder that turns colours round
    write_pictures(theirs, goldens[0], "int4-adaptive", goldens[0].pixels()[:, :128])
    status, output = invoke(*command, "--report", tmp_path / "r.html")
    assert status == 1
    assert "256 int8: ssim" in output
    assert "256 int4-adaptive: the pictures are 256x128, the reference is 256x256" in output


def test_pictures_that_are_not_there_or_too_few_are_said(tmp_path: Path, golden_folder: Path, models_dir: Path) -> None:
    command = ("golden", "verify", golden_folder, "--models-dir", models_dir, "--pixels", tmp_path)
    status, output = invoke(*command)
    assert status == 2
    assert "holds no FIXTURE/PIPELINE.png" in output
    (tmp_path / "256").mkdir()
    (tmp_path / "256" / "raw.png").write_text("no picture")
    status, output = invoke(*command)
    assert status == 2
    assert "cannot read the picture" in output


def test_a_map_that_is_missing_or_of_other_latents_is_said(tmp_path: Path, golden_folder: Path) -> None:
    command = ("golden", "streams", golden_folder, "-o", tmp_path / "s", "--models-dir", tmp_path)
    status, output = invoke(*command)
    assert status == 2
    assert "make one with `codec-diffusers map build`" in output


def test_the_report_shows_and_says_what_was_lost(judged: Judgement) -> None:
    text = html_of(judged)
    assert text.count("<h3 id=") == len(judged.rows)
    assert text.count("data:image/png;base64,") == 8 * len(judged.rows)
    assert "http" not in text.replace("http-equiv", "")  # it needs no other file
    assert "The same picture, to the last pixel." in text
    assert "On average a pixel is off by" in text
    assert "not measured" in text
    assert judged.bundle.hash in text
    prompt = judged.fixtures[0].manifest.fixture.prompt
    assert prompt in text


def test_the_metrics_against_values_worked_out_by_hand() -> None:
    reference = np.zeros((1, 16, 16, 3), np.uint8)
    assert psnr_db(reference, reference) == float("inf")
    assert psnr_db(reference, reference + 1) == pytest.approx(48.1308, abs=1e-4)
    # Two flat pictures: SSIM is its luminance term alone, (2ab + C1) / (a^2 + b^2 + C1), C1 = (0.01 * 255)^2.
    a, b, c1 = 100, 110, 2.55**2
    flat = [np.full((1, 16, 16, 3), value, np.uint8) for value in (a, b)]
    assert ssim_of_frames(*flat) == [pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), abs=1e-6)]


def test_flicker_shows_in_temporal_ssim_and_not_in_ssim() -> None:
    rng = np.random.default_rng(0)
    still = np.repeat(rng.integers(40, 216, (1, 32, 32, 3)).astype(np.uint8), 6, axis=0)
    noise = rng.integers(-6, 7, (6, 32, 32, 3))
    flickers = (still + noise).astype(np.uint8)
    steady = (still + noise[:1]).astype(np.uint8)
    assert np.mean(ssim_of_frames(still, flickers)) == pytest.approx(np.mean(ssim_of_frames(still, steady)), abs=0.01)
    flicker, calm = temporal_ssim(still, flickers), temporal_ssim(still, steady)
    assert calm == 1.0
    assert flicker is not None
    assert flicker < 0.95
    assert temporal_ssim(still[:1], still[:1]) is None


def test_what_a_reader_should_know_is_noted(judged: Judgement, tmp_path: Path, golden_folder: Path) -> None:
    assert judged.notes[0] == "LPIPS is not measured: no AlexNet weights are named (--lpips-backbone)"
    write_map(tmp_path, {name: {**bounds, "fixture_suite": "others"} for name, bounds in THRESHOLDS.items()})
    status, output = invoke(
        *("golden", "verify", golden_folder, *FLAGS, "--models-dir", tmp_path, "--fixtures", "256"),
        *("--image-digest", f"sha256:{'e' * 64}"),
    )
    assert status == 0, output
    assert f"the map's bounds are of the fixtures others, these are {SUITE}" in output
    assert f"256 was made elsewhere: image_digest: None then, sha256:{'e' * 64} now" in output


def test_a_file_that_cannot_be_written_is_one_line(golden_folder: Path, models_dir: Path, tmp_path: Path) -> None:
    command = ("golden", "thresholds", golden_folder, *FLAGS, "--models-dir", models_dir, "--fixtures", "256")
    result = CliRunner().invoke(app, [str(one) for one in (*command, "-o", tmp_path / "none" / "t.json")])
    assert result.exit_code == 2
    assert result.stderr.endswith("none/t.json: No such file or directory\n")
