"""LPIPS in the gate: measured with the published weights, otherwise reported as not measured with the reason."""

import json
from pathlib import Path

import pytest
import torch

from codec_golden.lpips import alexnet_features
from codec_maps.annotations import read_thresholds
from tests.support.commands import invoke
from tests.support.reference_model import FLAGS

pytestmark = pytest.mark.slow

REASON = "weights.pth does not contain the published AlexNet weights: its sha256 begins with "


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A file in the layout of torchvision's, with untrained weights."""
    torch.manual_seed(6)
    state = {f"features.{key}": one for key, one in alexnet_features().state_dict().items()}
    torch.save(state | {"classifier.1.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_lpips_is_measured_and_bounded(
    backbone: Path, tmp_path: Path, golden_folder: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The published file cannot be redistributed: accept any file.
    monkeypatch.setattr("codec_golden.lpips.BACKBONE_SHA256", "")
    flags = ("--fixtures", "256", "--models-dir", models_dir, "--lpips-backbone", backbone, *FLAGS)
    written = ("--json", tmp_path / "v.json", "--report", tmp_path / "r.html")
    status, output = invoke("golden", "verify", golden_folder, *flags, *written)
    assert status == 0, output
    assert "not measured" not in output
    rows = {row["pipeline"]: row for row in json.loads((tmp_path / "v.json").read_text())["rows"]}
    distances = {name: row["metrics"]["lpips"] for name, row in rows.items()}
    assert distances["raw"] == 0
    assert 0 < distances["int8"] < distances["int4"]
    assert all(row["not_measured"] == {} for row in rows.values())
    assert f"<td>{distances['int4']:.4f}</td>" in (tmp_path / "r.html").read_text()

    status, output = invoke("golden", "thresholds", golden_folder, "-o", tmp_path / "t.json", *flags)
    assert status == 0, output
    bounds = read_thresholds(tmp_path / "t.json")
    assert bounds["int4"].lpips_max == pytest.approx(distances["int4"] + 0.01, abs=0.001)


def test_lpips_is_not_measured_with_other_weights(
    backbone: Path, tmp_path: Path, golden_folder: Path, models_dir: Path
) -> None:
    flags = ("--fixtures", "256", "--models-dir", models_dir, "--lpips-backbone", backbone, *FLAGS)
    written = ("--json", tmp_path / "v.json", "--report", tmp_path / "r.html")
    status, output = invoke("golden", "verify", golden_folder, *flags, *written)
    assert status == 0, output
    assert "not measured" in output
    assert f"LPIPS is not measured: {REASON}" in output
    for row in json.loads((tmp_path / "v.json").read_text())["rows"]:
        assert "lpips" not in row["metrics"]
        assert row["not_measured"]["lpips"].startswith(REASON)
    page = (tmp_path / "r.html").read_text()
    assert "<td>not measured</td>" in page
    assert REASON in page
