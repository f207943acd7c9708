"""LPIPS: agrees with the package `lpips`, and is not measured with other weights."""

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

# The package imports torchvision only for AlexNet's layers: provide them with these weights.
models = types.ModuleType("torchvision.models")
models.alexnet = lambda **_: types.SimpleNamespace(features=features)
torchvision = types.ModuleType("torchvision")
torchvision.models = models
sys.modules |= {"torchvision": torchvision, "torchvision.models": models}
import lpips

metric = lpips.LPIPS(net="alex", version="0.1", verbose=False).eval()
images = torch.load(sys.argv[2], weights_only=True).permute(0, 3, 1, 2).float() / 127.5 - 1
with torch.no_grad():
    print(metric(images[:1], images[1:]).item())
"""


@pytest.mark.slow
def test_lpips_agrees_with_the_package(tmp_path: Path) -> None:
    torch.manual_seed(5)
    features = alexnet_features()
    torch.save(features.state_dict(), tmp_path / "weights.pt")
    images = torch.randint(0, 256, (2, 96, 80, 3), dtype=torch.uint8)
    torch.save(images, tmp_path / "images.pt")
    arguments = [str(tmp_path / "weights.pt"), str(tmp_path / "images.pt")]
    done = subprocess.run(
        [sys.executable, "-c", PACKAGE, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    ours = Lpips(features, read_heads())(images[:1].numpy(), images[1:].numpy())
    assert ours == pytest.approx(float(done.stdout), rel=1e-5)
    assert ours > 0


def test_identical_images_have_distance_0() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    assert Lpips(alexnet_features(), read_heads())(images, images) == 0


def test_lpips_is_not_measured_without_the_published_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotMeasured, match="AlexNet weights are not configured"):
        load_lpips(None)
    with pytest.raises(NotMeasured, match="is neither a file nor"):
        load_lpips(str(tmp_path / "none.pth"))
    # Other weights of the right shape would define another metric.
    torch.save({f"features.{key}": one for key, one in alexnet_features().state_dict().items()}, tmp_path / "own.pth")
    with pytest.raises(NotMeasured, match="does not contain the published AlexNet weights"):
        load_lpips(str(tmp_path / "own.pth"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(NotMeasured, match="the package lpips is not installed"):
        load_lpips(str(tmp_path / "own.pth"))


def test_weights_file_in_torchvision_layout_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published file cannot be redistributed, so the test disables the hash check for a similar file."""
    torch.manual_seed(6)
    features = alexnet_features()
    state = {f"features.{key}": one for key, one in features.state_dict().items()}
    torch.save(state | {"classifier.1.weight": torch.zeros(1)}, tmp_path / "alexnet.pth")
    monkeypatch.setattr("codec_golden.lpips.BACKBONE_SHA256", "")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    metric = load_lpips(str(tmp_path / "alexnet.pth"))
    expected = Lpips(features, read_heads())
    assert metric(images[:1], images[1:]) == expected(images[:1], images[1:])
    with pytest.raises(NotMeasured, match="at least 64 pixels"):
        metric(images[:, :32], images[:, :32])
