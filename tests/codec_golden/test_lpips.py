"""LPIPS computes what its package computes, and nothing goes by its name that is not it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from codec_golden.errors import NotMeasured
from codec_golden.lpips import Lpips, alexnet_features, load_lpips, read_heads

PACKAGE = """
import sys, types, warnings
import torch
warnings.simplefilter("ignore")
from codec_golden.lpips import alexnet_features

features = alexnet_features()
features.load_state_dict(torch.load(sys.argv[1], weights_only=True))

# The package asks torchvision for one thing here, AlexNet's layers: it gets ours, with these weights.
models = types.ModuleType("torchvision.models")
models.alexnet = lambda **_: types.SimpleNamespace(features=features)
torchvision = types.ModuleType("torchvision")
torchvision.models = models
sys.modules |= {"torchvision": torchvision, "torchvision.models": models}
import lpips

metric = lpips.LPIPS(net="alex", version="0.1", verbose=False).eval()
pictures = torch.load(sys.argv[2], weights_only=True).permute(0, 3, 1, 2).float() / 127.5 - 1
with torch.no_grad():
    print(metric(pictures[:1], pictures[1:]).item())
"""


def test_it_computes_what_the_package_computes(tmp_path: Path) -> None:
    torch.manual_seed(5)
    features = alexnet_features()
    torch.save(features.state_dict(), tmp_path / "weights.pt")
    pictures = torch.randint(0, 256, (2, 96, 80, 3), dtype=torch.uint8)
    torch.save(pictures, tmp_path / "pictures.pt")
    arguments = [str(tmp_path / "weights.pt"), str(tmp_path / "pictures.pt")]
    done = subprocess.run(
        [sys.executable, "-c", PACKAGE, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    ours = Lpips(features, read_heads())(pictures[:1].numpy(), pictures[1:].numpy())
    assert ours == pytest.approx(float(done.stdout), rel=1e-5)
    assert ours > 0


def test_equal_pictures_have_no_distance() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    assert Lpips(alexnet_features(), read_heads())(pictures, pictures) == 0


def test_without_weights_there_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotMeasured, match="no AlexNet weights are named"):
        load_lpips(None)
    with pytest.raises(NotMeasured, match="there is no file"):
        load_lpips(str(tmp_path / "none.pth"))
    # Weights of the right shape that are not the published ones make another metric.
    torch.save({f"features.{key}": one for key, one in alexnet_features().state_dict().items()}, tmp_path / "own.pth")
    with pytest.raises(NotMeasured, match="is not the AlexNet that LPIPS is defined on"):
        load_lpips(str(tmp_path / "own.pth"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(NotMeasured, match="the package lpips is not installed"):
        load_lpips(str(tmp_path / "own.pth"))


def test_the_published_file_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file itself cannot lie here: one that is accepted as it shows how it is read."""
    torch.manual_seed(6)
    features = alexnet_features()
    state = {f"features.{key}": one for key, one in features.state_dict().items()}
    torch.save(state | {"classifier.1.weight": torch.zeros(1)}, tmp_path / "alexnet.pth")
    monkeypatch.setattr("codec_golden.lpips.BACKBONE_SHA256", "")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    metric = load_lpips(str(tmp_path / "alexnet.pth"))
    expected = Lpips(features, read_heads())
    assert metric(pictures[:1], pictures[1:]) == expected(pictures[:1], pictures[1:])
    with pytest.raises(NotMeasured, match="sides of 64"):
        metric(pictures[:, :32], pictures[:, :32])
