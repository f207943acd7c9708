"""A second loss of stage 7 for the words of the motion: a classifier must find the motion in the features of the UNet.

The motion adapter does not receive the text, only the features. The loss of the latents teaches the UNet to pass the
words on only after thousands of steps, because the words lower that loss by less than 1 %. This loss does it directly,
and still images with words for a motion are sufficient for it.
"""

from collections.abc import Sequence
from functools import partial

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn
from torch.nn import functional

from training.scenes.labels import MOTIONS, Motion

WEIGHT = 0.1  # weight of this loss in the sum of the losses
LOGIT_SCALE = 10.0  # the heads learn ten times as fast as the other weights, because they begin untrained
UNNAMED = -100  # label of captions that do not name the motion; cross_entropy ignores it


class MotionWords(nn.Module):
    """A linear classifier of the motion for each attention layer of a UNet, applied to the mean of its output."""

    def __init__(self, unet: nn.Module) -> None:
        """Create the classifiers for the attention layers of `unet`."""
        super().__init__()
        widths = [layer.proj_out.out_channels for layer in attention_layers(unet)]
        self.heads = nn.ModuleList(nn.Linear(width, len(MOTIONS)) for width in widths)
        self._features: dict[int, torch.Tensor] = {}  # by the number of the layer

    def watch(self, unet: nn.Module) -> None:
        """Collect the outputs of the attention layers of `unet` from now on."""
        for number, layer in enumerate(attention_layers(unet)):
            layer.register_forward_hook(partial(self._collect, number))

    def loss(self, motions: Sequence[Motion | None]) -> torch.Tensor:
        """Return the loss for the motions that the captions of the last forward pass name; None if they name none.

        Every motion stands for the same number of consecutive images in the batch: the frames of a clip, or one image.
        """
        labels = torch.tensor([UNNAMED if motion is None else MOTIONS.index(motion) for motion in motions])
        losses = []
        for number, head in enumerate(self.heads):
            features = self._features.pop(number)
            repeated = labels.to(features.device).repeat_interleave(len(features) // len(labels))
            logits = LOGIT_SCALE * head(functional.layer_norm(features, features.shape[1:]))
            losses.append(functional.cross_entropy(logits, repeated, ignore_index=UNNAMED, reduction="sum"))
        count = sum(motion is not None for motion in motions) * max(1, len(repeated) // len(labels))
        return torch.stack(losses).mean() / max(1, count)

    def discard(self) -> None:
        """Forget the outputs of the last forward pass, which is not used for this loss."""
        self._features.clear()

    def _collect(self, number: int, _layer: nn.Module, _inputs: object, output: tuple[torch.Tensor]) -> None:
        if torch.is_grad_enabled():
            self._features[number] = output[0].float().mean(dim=(2, 3))


def attention_layers(unet: nn.Module) -> list[Transformer2DModel]:
    """Return the attention layers of a UNet for images or videos, in the same order for both."""
    return [module for module in unet.modules() if isinstance(module, Transformer2DModel)]
