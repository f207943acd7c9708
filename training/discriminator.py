"""Patch discriminator for adversarial training of the decoder."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

WIDTHS = (3, 24, 48, 96)


class Discriminator(nn.Module):
    """Convolutional network that scores overlapping patches of an image: high for rendered, low for decoded images."""

    def __init__(self) -> None:
        """Create an untrained network."""
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(WIDTHS):
            layers += [nn.utils.parametrizations.spectral_norm(nn.Conv2d(before, after, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(WIDTHS[-1], 1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return patch scores [B, 1, H/8, W/8] of images [B, 3, H, W] with values in [-1, 1]."""
        scores: torch.Tensor = self.layers(images)
        return scores


def discriminator_loss(rendered: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """Return the hinge loss of patch scores of rendered and decoded images."""
    return functional.relu(1 - rendered).mean() + functional.relu(1 + decoded).mean()
