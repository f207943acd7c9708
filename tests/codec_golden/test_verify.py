"""The gate on the 256 picture and a short video: what it measures, what it lets through, what it says."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import codec_scenes
from codec_golden.evaluation import EvaluationResult
from codec_golden.gate import missed_bounds
from codec_golden.reference import ReferenceModel
from codec_golden.storage import GoldenFixture, frame_name
from codec_golden.thresholds import compute_thresholds
from codec_golden.wire import reconstruction
from codec_maps.annotations import read_thresholds, with_thresholds
from codec_server.cli import app
from codec_wire import WireFormat
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.document import QualityThresholds
from codec_wire.pipelines import PIPELINES
from core.map_store import bundle_folder
from tests.support.commands import invoke
from tests.support.reference_model import FLAGS, LATENT_SPACE, SUITE, shipped_bundle, write_map

FOR_VIDEOS = list(PIPELINES)
FOR_IMAGES = [name for name, row in PIPELINES.items() if not row.video_only]


@pytest.fixture(scope="module")
def bounds(judged: EvaluationResult) -> Any:
    return compute_thresholds(judged.rows, SUITE)


def test_every_pipeline_has_its_row(judged: EvaluationResult) -> None:
    rows = [(row.fixture, row.pipeline) for row in judged.rows]
    assert rows == [("256", name) for name in FOR_IMAGES] + [("video-short", name) for name in FOR_VIDEOS]
    assert judged.passed
    assert all(row.bits == [] for row in judged.rows)


def test_the_numbers_are_what_the_pipelines_promise(judged: EvaluationResult) -> None:
    by = {(row.fixture, row.pipeline): row for row in judged.rows}
    for fixture in ("256", "video-short"):
        assert by[fixture, "raw"].measured["ssim"] == 1
        assert by[fixture, "raw"].measured["psnr_db"] == float("inf")
        for family in ("int8", "int8-adaptive"):
            assert by[fixture, family].measured["psnr_db"] > by[fixture, family.replace("8", "4")].measured["psnr_db"]
            assert 0.99 < by[fixture, family].measured["ssim"] < 1
    assert by["256", "int8"].wire_bytes == 4265  # 4 x 32 x 32 codes, and two msgpack messages around them
    assert "vmaf" not in by["256", "int8"].measured
    assert by["video-short", "delta+int8"].measured["temporal_ssim"] > 0.9


def test_the_thresholds_are_the_worst_fixture_less_head_room(judged: EvaluationResult, bounds: Any) -> None:
    assert list(bounds) == FOR_VIDEOS
    assert bounds["raw"] == {"ssim_min": 0.98, "psnr_min_db": 47.1, "fixture_suite": SUITE}
    worst = min(row.measured["psnr_db"] for row in judged.rows if row.pipeline == "int4")
    assert bounds["int4"]["psnr_min_db"] == pytest.approx(worst - 1, abs=0.1)
    for entry in bounds.values():
        QualityThresholds.model_validate(entry)  # what the map takes


def test_the_gate(tmp_path: Path, golden_folder: Path, models_dir: Path) -> None:
    """What a release has to pass: the 256 picture and the short video, every pipeline, the shipped bounds."""
    command = ("golden", "verify", golden_folder, *FLAGS, "--models-dir", models_dir)
    status, output = invoke(*command, "--json", tmp_path / "v.json", "--report", tmp_path / "r.html")
    assert status == 0, output
    assert "int4-adaptive" in output
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["passed"]
    assert found["fixture_suites"] == [SUITE]
    rows = {(row["fixture"], row["pipeline"]): row for row in found["rows"]}
    assert len(rows) == 12
    for entry in shipped_bundle().latent_map.pipelines:
        bounds = entry.quality_thresholds and entry.quality_thresholds.model_dump(exclude_none=True)
        assert rows["video-short", entry.name]["thresholds"] == bounds
        if entry.name in FOR_IMAGES:
            assert set(bounds or ()) >= {"ssim_min", "psnr_min_db"}, f"{entry.name} has no bound to miss"
    raw, video = rows["256", "raw"], rows["video-short", "delta+int4"]
    assert raw["metrics"] == {"ssim": 1.0, "psnr_db": "identical"}
    assert raw["not_measured"] == {"lpips": "no AlexNet weights are named (--lpips-backbone)"}
    assert set(video["metrics"]) == {"ssim", "psnr_db", "temporal_ssim", "vmaf"}
    assert "<img" in (tmp_path / "r.html").read_text()


def test_the_shipped_map_is_judged_where_no_other_is_named(tmp_path: Path, golden_folder: Path) -> None:
    command = ("golden", "verify", golden_folder, "--models-dir", tmp_path, "--fixtures", "256", *FLAGS)
    status, output = invoke(*command, "--json", tmp_path / "v.json")
    assert status == 0, output
    shipped = LatentMapBundle.from_folder(bundle_folder(codec_scenes.FOLDER, LATENT_SPACE))
    assert json.loads((tmp_path / "v.json").read_text())["latent_map"] == shipped.hash


def test_a_missed_bound_is_named_and_exits_with_1(tmp_path: Path, golden_folder: Path) -> None:
    write_map(
        tmp_path, with_thresholds(shipped_bundle(), {"int4": QualityThresholds.model_validate({"ssim_min": 0.9999})})
    )
    command = ("golden", "verify", golden_folder, *FLAGS, "--models-dir", tmp_path, "--fixtures", "256")
    status, output = invoke(*command, "--json", tmp_path / "v.json")
    assert status == 1
    assert "256 int4: ssim 0." in output
    failed = [row for row in json.loads((tmp_path / "v.json").read_text())["rows"] if not row["passed"]]
    assert [row["pipeline"] for row in failed] == ["int4"]


def test_the_shipped_bounds_are_those_measured(bounds: Any) -> None:
    """They are of more fixtures than these, and so may be lower, but not so low that nothing could miss them."""
    for entry in shipped_bundle().latent_map.pipelines:
        measured, shipped = bounds[entry.name], entry.quality_thresholds
        if shipped is None:
            continue
        assert shipped.ssim_min is not None
        assert shipped.psnr_min_db is not None
        # Other processors round otherwise, by far less than this. Else: measure anew, and say why it changed.
        assert -0.005 <= measured["ssim_min"] - shipped.ssim_min <= 0.03, entry.name
        assert -0.5 <= measured["psnr_min_db"] - shipped.psnr_min_db <= 3, entry.name


def test_the_thresholds_command_writes_what_the_map_takes(
    tmp_path: Path, golden_folder: Path, models_dir: Path
) -> None:
    command = ("golden", "thresholds", golden_folder, "-o", tmp_path / "t.json", *FLAGS, "--models-dir", models_dir)
    status, output = invoke(*command, "--fixtures", "256")
    assert status == 0, output
    written = read_thresholds(tmp_path / "t.json")
    assert list(written) == FOR_IMAGES
    with_thresholds(shipped_bundle(), written)


def test_lpips_is_bounded_only_where_it_was_measured() -> None:
    bounds = QualityThresholds(ssim_min=0.9, psnr_min_db=30, lpips_max=0.1)
    assert missed_bounds({"ssim": 0.95, "psnr_db": 31.0}, bounds) == []
    missed = missed_bounds({"ssim": 0.85, "psnr_db": 29.0, "lpips": 0.2}, bounds)
    assert missed == ["ssim 0.8500 is under 0.9", "psnr_db 29.0000 is under 30", "lpips 0.2000 is over 0.1"]
    assert missed_bounds({"ssim": 0.0}, None) == []


def write_pictures(folder: Path, golden: GoldenFixture, pipeline: str, pixels: Any) -> None:
    if golden.manifest.fixture.kind == "image":
        (folder / golden.key).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(folder / golden.key / f"{pipeline}.png")
        return
    place = folder / golden.key / pipeline
    place.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(pixels):
        Image.fromarray(frame).save(place / frame_name(number))


def test_another_decoders_pictures_are_judged_from_the_streams_it_was_given(
    tmp_path: Path, golden_folder: Path, goldens: list[GoldenFixture], reference: ReferenceModel, models_dir: Path
) -> None:
    """The way round that docs/conformance.md describes: streams out, pictures back, a verdict. It needs no model."""
    streams, theirs = tmp_path / "streams", tmp_path / "theirs"
    status, output = invoke("golden", "streams", golden_folder, "-o", streams, "--models-dir", models_dir)
    assert status == 0, output
    for golden in goldens:
        for pipeline in ("int8", "int4-adaptive"):
            path = streams / golden.key / f"{pipeline}.protobuf"
            latents = reconstruction(path.read_bytes(), WireFormat.PROTOBUF)
            write_pictures(theirs, golden, pipeline, reference.pixels(latents))
    command = ("golden", "verify", golden_folder, "--pixels", theirs, "--models-dir", models_dir)
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
    assert "Pictures of two sizes cannot be compared." in (tmp_path / "r.html").read_text()


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
    strange = tmp_path / "golden"
    shutil.copytree(golden_folder / LATENT_SPACE / "256", strange / "other-vae" / "256")
    manifest = strange / "other-vae" / "256" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(LATENT_SPACE, "other-vae"))
    command = ("golden", "streams", strange, "-o", tmp_path / "s", "--models-dir", tmp_path)
    status, output = invoke(*command)
    assert status == 2
    assert "make one with `codec-diffusers map build`" in output
    status, output = invoke(*command, "--map", bundle_folder(codec_scenes.FOLDER, LATENT_SPACE))
    assert status == 2
    assert f"the map is of {LATENT_SPACE} with 4 channels, the fixtures are of other-vae with 4" in output


def test_what_a_reader_should_know_is_noted(judged: EvaluationResult, tmp_path: Path, golden_folder: Path) -> None:
    assert judged.notes[0] == "LPIPS is not measured: no AlexNet weights are named (--lpips-backbone)"
    others = dict.fromkeys(FOR_VIDEOS, QualityThresholds.model_validate({"fixture_suite": "others"}))
    write_map(tmp_path, with_thresholds(shipped_bundle(), others))
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
