"""The metric LPIPS 0.1 with AlexNet, computed without torchvision.

The metric is described by Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
(2018). Two files define the metric: AlexNet's weights (published by torchvision) and the linear heads (in the package
`lpips`). This project cannot redistribute AlexNet's weights and the linear heads. If AlexNet's weights or the linear
heads are missing or differ from the published files, LPIPS is not measured.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codec_golden.errors import NotMeasured
from codec_golden.storage import Pixels
from codec_wire.first_line import first_line

BACKBONE_SHA256 = ("7be5be79", "4df8aa71")
"""Accepted prefixes of the sha256 of AlexNet's weights.

The first prefix identifies torchvision's file alexnet-owt-7be5be79.pth, and the second prefix identifies an earlier
release of the same file.
"""
HEADS_FILE = "weights/v0.1/alex.pth"
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""SHIFT and SCALE are the mean and the standard deviation of ImageNet's pixel values, scaled to [-1, 1]."""
LAYERS = 5
"""Number of ReLU outputs of AlexNet that are compared."""
SMALLEST_SIDE = 64


def alexnet_features() -> nn.Sequential:
    """Return AlexNet's feature layers without trained weights.

    The layers are described by Krizhevsky, "One weird trick" (2014).
    """
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


class Lpips:
    """The LPIPS distance between images. The LPIPS distance is larger for images that look more different."""

    def __init__(self, features: nn.Sequential, heads: list[Tensor]) -> None:
        """Create the metric from AlexNet's feature layers `features` and the linear heads `heads`.

        For each layer, `heads` contains a tensor [1, channels, 1, 1] with the weights of the channels.
        """
        self._features = features.eval()
        self._heads = heads

    @torch.inference_mode()
    def __call__(self, reference: Pixels, images: Pixels) -> float:
        """Return the mean LPIPS over all frames. Raises NotMeasured if the frames are too small."""
        if min(reference.shape[1:3]) < SMALLEST_SIDE:
            raise NotMeasured(f"LPIPS with AlexNet needs at least {SMALLEST_SIDE} pixels per side")
        distances = [self._distance(one, other) for one, other in zip(reference, images, strict=True)]
        return float(sum(distances) / len(distances))

    def _distance(self, one: Any, other: Any) -> float:
        total = 0.0
        activations = zip(self._heads, self._activations(one), self._activations(other), strict=True)
        for head, first, second in activations:
            total += float((head * (_normalize(first) - _normalize(second)) ** 2).sum(dim=1).mean())
        return total

    def _activations(self, frame: Any) -> list[Tensor]:
        shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (SHIFT, SCALE))
        values = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        values, activations = (values - shift) / scale, []
        for layer in self._features:
            values = layer(values)
            if isinstance(layer, nn.ReLU):
                activations.append(values)
        return activations


def _normalize(features: Tensor) -> Tensor:
    """Return `features` with the channel vector of each position scaled to length 1, as in the reference code."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def load_lpips(backbone: str | None) -> Lpips:
    """Return the metric LPIPS with the AlexNet weights in `backbone`.

    `backbone` is the path of a file, or has the form REPOSITORY:FILE for a file on the Hugging Face Hub. Raises
    NotMeasured if a file is missing or differs from the published file.
    """
    if backbone is None:
        raise NotMeasured("AlexNet weights are not configured; set --lpips-backbone")
    heads = read_heads()
    path = _locate_backbone(backbone)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(BACKBONE_SHA256):
        raise NotMeasured(
            f"{path.name} does not contain the published AlexNet weights: its sha256 begins with {digest[:8]}, "
            f"expected {' or '.join(BACKBONE_SHA256)}"
        )
    features = alexnet_features()
    state = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "features."
    try:
        features.load_state_dict({key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)})
    except RuntimeError:
        raise NotMeasured(f"{path.name} does not contain the layers of AlexNet") from None
    return Lpips(features, heads)


def read_heads() -> list[Tensor]:
    """Return the linear heads of LPIPS, read from a file of the package `lpips`.

    The package `lpips` is not imported, because importing `lpips` requires torchvision.

    Raises NotMeasured if the package `lpips` is not installed.
    """
    found = importlib.util.find_spec("lpips")
    if found is None or not found.submodule_search_locations:
        raise NotMeasured("the package lpips is not installed (pip install --no-deps lpips)")
    path = Path(found.submodule_search_locations[0]) / HEADS_FILE
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{number}.model.1.weight"] for number in range(LAYERS)]


def _locate_backbone(location: str) -> Path:
    if Path(location).is_file():
        return Path(location)
    repository, colon, name = location.partition(":")
    if not colon or repository.count("/") != 1:
        raise NotMeasured(f"--lpips-backbone: {location} is neither a file nor REPOSITORY:FILE on the Hugging Face Hub")
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - slow to import, rarely needed

    try:
        return Path(hf_hub_download(repository, name))
    except Exception as error:
        reason = first_line(error)
        raise NotMeasured(f"cannot download {location}: {reason}") from None
