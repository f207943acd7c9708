"""LPIPS 0.1 on AlexNet, without torchvision.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018). Two files make it what it
is, and neither is ours to ship: AlexNet's weights (the file that torchvision publishes) and the linear heads (in the
package `lpips`). Without both, or with others, there is no LPIPS here and no number under its name.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codec_golden.errors import NotMeasured
from codec_golden.storage import Pixels

BACKBONE_SHA256 = ("7be5be79", "4df8aa71")
"""How the sha256 of torchvision's file begins, as its name says (alexnet-owt-7be5be79.pth, and an earlier one)."""
HEADS_FILE = "weights/v0.1/alex.pth"
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation, for values in -1…1."""
LAYERS = 5
"""Features are compared behind each of AlexNet's five ReLUs."""
SMALLEST_SIDE = 64


def alexnet_features() -> nn.Sequential:
    """Return AlexNet's feature layers, untrained: Krizhevsky, "One weird trick" (2014)."""
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
    """The distance of two pictures: 0 for equal ones, larger the more different they look."""

    def __init__(self, features: nn.Sequential, heads: list[Tensor]) -> None:
        """`heads` holds the weight of each compared layer's channels, [1, channels, 1, 1]."""
        self._features = features.eval()
        self._heads = heads

    @torch.inference_mode()
    def __call__(self, reference: Pixels, pictures: Pixels) -> float:
        """Return the mean LPIPS over all frames."""
        if min(reference.shape[1:3]) < SMALLEST_SIDE:
            raise NotMeasured(f"LPIPS on AlexNet needs sides of {SMALLEST_SIDE} pixels or more")
        distances = [self._distance(one, other) for one, other in zip(reference, pictures, strict=True)]
        return float(sum(distances) / len(distances))

    def _distance(self, one: Any, other: Any) -> float:
        total = 0.0
        for head, first, second in zip(self._heads, self._layers(one), self._layers(other), strict=True):
            total += float((head * (_normalize(first) - _normalize(second)) ** 2).sum(dim=1).mean())
        return total

    def _layers(self, picture: Any) -> list[Tensor]:
        shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (SHIFT, SCALE))
        values = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        values, found = (values - shift) / scale, []
        for layer in self._features:
            values = layer(values)
            if isinstance(layer, nn.ReLU):
                found.append(values)
        return found


def _normalize(features: Tensor) -> Tensor:
    """Return the features with each place's vector of channels of length 1, as the reference takes it."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def load_lpips(backbone: str | None) -> Lpips:
    """Return LPIPS with AlexNet's weights from `backbone`: a file, or REPOSITORY:FILE on the hub.

    Raises NotMeasured saying what is missing, or that the file is not the published one.
    """
    if backbone is None:
        raise NotMeasured("no AlexNet weights are named (--lpips-backbone)")
    heads = read_heads()
    path = _locate_backbone(backbone)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(BACKBONE_SHA256):
        raise NotMeasured(f"{path.name} is not the AlexNet that LPIPS is defined on: its sha256 begins {digest[:8]}")
    features = alexnet_features()
    state = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "features."
    try:
        features.load_state_dict({key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)})
    except RuntimeError:
        raise NotMeasured(f"{path.name} does not hold AlexNet's layers") from None
    return Lpips(features, heads)


def read_heads() -> list[Tensor]:
    """Return the heads that the package `lpips` ships, read from its files: importing it would need torchvision."""
    found = importlib.util.find_spec("lpips")
    if found is None or not found.submodule_search_locations:
        raise NotMeasured("the package lpips is not installed (pip install --no-deps -r requirements/lpips.txt)")
    path = Path(found.submodule_search_locations[0]) / HEADS_FILE
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{number}.model.1.weight"] for number in range(LAYERS)]


def _locate_backbone(place: str) -> Path:
    if Path(place).is_file():
        return Path(place)
    repository, colon, name = place.partition(":")
    if not colon or repository.count("/") != 1:
        raise NotMeasured(f"there is no file {place}, and it is no REPOSITORY:FILE on the hub")
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - takes a second, and is seldom needed

    try:
        return Path(hf_hub_download(repository, name))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NotMeasured(f"{place} cannot be downloaded: {reason}") from None
