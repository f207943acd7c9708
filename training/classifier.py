"""Scene classifier: `python -m training.classifier` trains a network that predicts place, time of day and weather.

The classifier evaluates generated images (training.evaluate). It is trained only on rendered scenes. Blur and noise are
added to them so that the predictions do not depend on sharpness.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich import print as rich_print
from torch import nn
from torch.nn import functional

from training.checkpoint import DEFAULT_FOLDER
from training.images import HELD_OUT, scene_images, to_tensor
from training.runtime import limit_threads, mixed_precision, select_device, torch_rng
from training.scenes.labels import PLACES, TIMES, WEATHERS, Scene, sample_scene
from training.scenes.render import Image
from training.trainer import Trainer, load_averaged_weights

LABELS: dict[str, tuple[str, ...]] = {"place": PLACES, "time": TIMES, "weather": WEATHERS}
BATCH, PEAK_LEARNING_RATE, WARMUP = 32, 2e-3, 50


class Classifier(nn.Module):
    """Convolutional classifier of images float [B, 3, H, W] with values in [-1, 1], trained at 256x256."""

    def __init__(self) -> None:
        """Create an untrained network."""
        super().__init__()
        widths = (3, 24, 48, 96, 128, 128)
        blocks: list[nn.Module] = [nn.AvgPool2d(2)]
        for before, after in pairwise(widths):
            blocks += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.SiLU()]
        self.body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.heads = nn.ModuleDict({name: nn.Linear(4 * widths[-1], len(values)) for name, values in LABELS.items()})

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return logits float [B, values] for each label."""
        features = self.body(images)
        return {name: head(features) for name, head in self.heads.items()}


def label_indices(scenes: list[Scene]) -> dict[str, torch.Tensor]:
    """Return the index of each scene's value for each label, int64 [B]."""
    return {
        name: torch.tensor([values.index(getattr(scene, name)) for scene in scenes]) for name, values in LABELS.items()
    }


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blur a random half of images [B, 3, H, W] and add noise to all of them."""
    blurred = functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return torch.where(chosen, blurred, images) + 0.04 * noise


@torch.no_grad()
def classify(model: Classifier, images: Image, batch: int = 32) -> dict[str, list[str]]:
    """Return the predicted value of each label for each of the images uint8 [N, H, W, 3]."""
    device = next(model.parameters()).device
    predicted: dict[str, list[str]] = {name: [] for name in LABELS}
    for start in range(0, len(images), batch):
        for name, logits in model(to_tensor(images[start : start + batch], device)).items():
            predicted[name] += [LABELS[name][index] for index in logits.argmax(1).tolist()]
    return predicted


def accuracy(predicted: dict[str, list[str]], scenes: list[Scene]) -> dict[str, float]:
    """Return the share of correct predictions for each label."""
    return {
        name: float(np.mean([value == getattr(scene, name) for value, scene in zip(values, scenes, strict=True)]))
        for name, values in predicted.items()
    }


def load_classifier(folder: Path) -> Classifier:
    """Return the trained classifier."""
    model = Classifier().to(select_device()).eval()
    load_averaged_weights(folder / "classifier.pt", model)
    return model


def train(folder: Path, steps: int, scenes: int, seed: int = 2) -> float:
    """Train up to step `steps`, resuming from FOLDER/classifier.pt if it exists; return the last loss."""
    device = select_device()
    torch.manual_seed(seed)
    model = Classifier().to(device)
    trainer = Trainer(
        folder / "classifier.pt",
        model,
        steps=steps,
        learning_rate=PEAK_LEARNING_RATE,
        warmup=WARMUP,
        decay=0.99,
        seed=seed,
    )
    images = scene_images(folder, scenes)
    for _, rng in trainer.remaining_steps():
        chosen = rng.integers(scenes, size=BATCH)
        labels = label_indices([sample_scene(int(index)) for index in chosen])
        augmented = augment(to_tensor(images[chosen], device), torch_rng(rng, device))
        with mixed_precision(device):
            logits = model(augmented)
        losses = [functional.cross_entropy(logits[name].float(), labels[name].to(device)) for name in LABELS]
        trainer.update(torch.stack(losses).sum())
    return trainer.loss


def main(
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and rendered scenes.")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="Total number of training steps.")] = 500,
    scenes: Annotated[int, typer.Option(help="Number of scenes to render for training.")] = 4000,
    held_out: Annotated[
        int, typer.Option(help="Number of evaluation scenes, on which the accuracy is measured.")
    ] = 500,
) -> None:
    """Train the classifier and write its accuracy on evaluation scenes to FOLDER/classifier.json."""
    limit_threads()
    train(folder, steps, scenes)
    evaluation_scenes = [sample_scene(HELD_OUT + index) for index in range(held_out)]
    images = scene_images(folder, held_out, first_seed=HELD_OUT)
    result = accuracy(classify(load_classifier(folder), images), evaluation_scenes)
    (folder / "classifier.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    rich_print(result)


if __name__ == "__main__":
    typer.run(main)
