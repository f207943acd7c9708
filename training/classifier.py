"""The judge: `python -m training.classifier` trains a network that reads place, time and weather.

It learns from the renderer alone, its pictures blurred and roughened so that sharpness is not what it judges.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich import print as show
from torch import nn
from torch.nn import functional

from training.machine import device, fast_math, limit_threads, torch_rng
from training.pictures import HELD_OUT, scene_pictures, to_tensor
from training.run import Run, load_average
from training.scenes.labels import PLACES, TIMES, WEATHERS, Scene, sample_scene
from training.scenes.render import Image
from training.state import DEFAULT_FOLDER

LABELS: dict[str, tuple[str, ...]] = {"place": PLACES, "time": TIMES, "weather": WEATHERS}
BATCH, PEAK_RATE, WARMUP = 32, 2e-3, 50


class Classifier(nn.Module):
    """Reads pictures float [B, 3, H, W] in -1…1 at half their size; native to 256 by 256."""

    def __init__(self) -> None:
        """Start untrained."""
        super().__init__()
        widths = (3, 24, 48, 96, 128, 128)
        blocks: list[nn.Module] = [nn.AvgPool2d(2)]
        for before, after in pairwise(widths):
            blocks += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.SiLU()]
        self.body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.heads = nn.ModuleDict({name: nn.Linear(4 * widths[-1], len(of)) for name, of in LABELS.items()})

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the scores of each label's values, float [B, values]."""
        seen = self.body(pictures)
        return {name: head(seen) for name, head in self.heads.items()}


def truth(scenes: list[Scene]) -> dict[str, torch.Tensor]:
    """Return the number of each label's value, int64 [B]."""
    return {
        name: torch.tensor([values.index(getattr(scene, name)) for scene in scenes]) for name, values in LABELS.items()
    }


def roughen(pictures: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Return pictures [B, 3, H, W], half of them blurred, all with a little noise."""
    blurred = functional.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
    chosen = torch.rand(len(pictures), 1, 1, 1, generator=random, device=pictures.device) < 0.5
    noise = torch.randn(pictures.shape, generator=random, device=pictures.device)
    return torch.where(chosen, blurred, pictures) + 0.04 * noise


@torch.no_grad()
def read(model: Classifier, pictures: Image, batch: int = 32) -> dict[str, list[str]]:
    """Return what the classifier sees in pictures uint8 [N, H, W, 3]: a value for each label and picture."""
    where = next(model.parameters()).device
    seen: dict[str, list[str]] = {name: [] for name in LABELS}
    for start in range(0, len(pictures), batch):
        for name, scores in model(to_tensor(pictures[start : start + batch], where)).items():
            seen[name] += [LABELS[name][index] for index in scores.argmax(1).tolist()]
    return seen


def agreement(seen: dict[str, list[str]], scenes: list[Scene]) -> dict[str, float]:
    """Return the share of scenes whose label was read rightly, for each label."""
    return {
        name: float(np.mean([value == getattr(scene, name) for value, scene in zip(values, scenes, strict=True)]))
        for name, values in seen.items()
    }


def load_classifier(folder: Path) -> Classifier:
    """Return the trained classifier."""
    model = Classifier().to(device()).eval()
    load_average(folder / "classifier.pt", model)
    return model


def train(folder: Path, steps: int, scenes: int, seed: int = 2) -> float:
    """Train up to step `steps`, from the last state in `folder` where there is one; return the last loss."""
    where = device()
    torch.manual_seed(seed)
    model = Classifier().to(where)
    run = Run(folder / "classifier.pt", model, steps=steps, rate=PEAK_RATE, warmup=WARMUP, decay=0.99, seed=seed)
    pictures = scene_pictures(folder, scenes)
    for _, rng in run.rounds():
        chosen = rng.integers(scenes, size=BATCH)
        labels = truth([sample_scene(int(index)) for index in chosen])
        seen = roughen(to_tensor(pictures[chosen], where), torch_rng(rng, where))
        with fast_math(where):
            scores = model(seen)
        losses = [functional.cross_entropy(scores[name].float(), labels[name].to(where)) for name in LABELS]
        run.descend(torch.stack(losses).sum())
    return run.loss


def main(
    folder: Annotated[Path, typer.Option(help="where states and drawn scenes are kept")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="the step to train up to")] = 500,
    scenes: Annotated[int, typer.Option(help="how many scenes to draw")] = 4000,
    held_out: Annotated[int, typer.Option(help="how many unseen scenes to measure on")] = 500,
) -> None:
    """Train the classifier, and write its accuracy on unseen scenes to FOLDER/classifier.json."""
    limit_threads()
    train(folder, steps, scenes)
    unseen = [sample_scene(HELD_OUT + index) for index in range(held_out)]
    pictures = scene_pictures(folder, held_out, first_seed=HELD_OUT)
    accuracy = agreement(read(load_classifier(folder), pictures), unseen)
    (folder / "classifier.json").write_text(json.dumps(accuracy, indent=2) + "\n", encoding="utf-8")
    show(accuracy)


if __name__ == "__main__":
    typer.run(main)
