"""Motion classifier: `python -m training.motion_classifier` trains a network that predicts the motion of a video.

It evaluates generated videos (training.evaluate_video). It is trained only on rendered clips and receives few small
grey frames, so that its predictions depend on movement and not on sharpness.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich import print as rich_print
from rich.progress import track
from torch import nn
from torch.nn import functional

from training.checkpoint import DEFAULT_FOLDER
from training.classifier import augment
from training.images import HELD_OUT, variation_fingerprint
from training.runtime import limit_threads, mixed_precision, select_device, torch_rng
from training.scenes.labels import MOTIONS, Motion, Scene, sample_moving_scene
from training.scenes.render import render_motion
from training.trainer import Trainer, load_averaged_weights

FRAMES, SIDE = 8, 64  # what the network sees of a video: evenly spaced frames of SIDE x SIDE pixels
BATCH, PEAK_LEARNING_RATE, WARMUP = 32, 2e-3, 50


class MotionClassifier(nn.Module):
    """Convolutional classifier of grey clips float [B, FRAMES, SIDE, SIDE] with values in [-1, 1]."""

    def __init__(self) -> None:
        """Create an untrained network."""
        super().__init__()
        widths = (FRAMES, 48, 64, 96, 96)
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            blocks += [nn.Conv2d(before, after, 5, 2, 2), nn.GroupNorm(8, after), nn.SiLU()]
        self.layers = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(widths[-1] * (SIDE // 16) ** 2, len(MOTIONS)))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Return logits float [B, len(MOTIONS)]."""
        logits: torch.Tensor = self.layers(clips)
        return logits


def clips(folder: Path, count: int, first_seed: int = 0) -> NDArray[np.uint8]:
    """Return clips of `count` moving scenes, uint8 [count, FRAMES, SIDE, SIDE, 3], stored in a file in `folder`."""
    path = folder / f"motions-{variation_fingerprint()}-{first_seed}-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        seeds = track(range(first_seed, first_seed + count), f"rendering {count} clips")
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.stack([render_motion(sample_moving_scene(seed), FRAMES, SIDE, SIDE) for seed in seeds]))
        partial.replace(path)
    loaded: NDArray[np.uint8] = np.load(path)
    return loaded


def to_clips(videos: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Convert videos uint8 [B, F, H, W, 3] of any length and size to the network's input [B, FRAMES, SIDE, SIDE]."""
    chosen = np.linspace(0, videos.shape[1] - 1, FRAMES).round().astype(int)
    grey = torch.from_numpy(videos[:, chosen].mean(axis=4, dtype=np.float32)).to(device)
    return functional.adaptive_avg_pool2d(grey, SIDE) / 127.5 - 1


def mirror(inputs: torch.Tensor, labels: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mirror those clips [B, FRAMES, SIDE, SIDE] for which `chosen`, bool [B], is true; return clips and labels [B].

    A mirrored pan has the opposite direction. All clouds drift to the right, so clips with drifting clouds are kept.
    """
    chosen = chosen & (labels != MOTIONS.index("drift"))
    opposite = torch.arange(len(MOTIONS), device=labels.device)
    right, left = MOTIONS.index("pan"), MOTIONS.index("pan_left")
    opposite[right], opposite[left] = left, right
    mirrored = torch.where(chosen[:, None, None, None], inputs.flip(3), inputs)
    return mirrored, torch.where(chosen, opposite[labels], labels)


@torch.no_grad()
def classify(model: MotionClassifier, videos: NDArray[np.uint8]) -> list[Motion]:
    """Return the predicted motion of each of the videos uint8 [B, F, H, W, 3]."""
    device = next(model.parameters()).device
    return [MOTIONS[index] for index in model(to_clips(videos, device)).argmax(1).tolist()]


def load_motion_classifier(folder: Path) -> MotionClassifier:
    """Return the trained classifier."""
    model = MotionClassifier().to(select_device()).eval()
    load_averaged_weights(folder / "motion_classifier.pt", model)
    return model


def train(folder: Path, steps: int, scenes: int, seed: int = 5) -> float:
    """Train up to step `steps`, resuming from FOLDER/motion_classifier.pt if it exists; return the last loss."""
    device = select_device()
    torch.manual_seed(seed)
    model = MotionClassifier().to(device)
    trainer = Trainer(
        folder / "motion_classifier.pt",
        model,
        steps=steps,
        learning_rate=PEAK_LEARNING_RATE,
        warmup=WARMUP,
        decay=0.99,
        seed=seed,
    )
    inputs = to_clips(clips(folder, scenes), device)
    labels = torch.tensor([MOTIONS.index(sample_moving_scene(index).motion) for index in range(scenes)], device=device)
    for _, rng in trainer.remaining_steps():
        chosen = torch.from_numpy(rng.integers(scenes, size=BATCH)).to(device)
        flips = torch.from_numpy(rng.random(BATCH) < 0.5).to(device)
        mirrored, targets = mirror(inputs[chosen], labels[chosen], flips)
        augmented = augment(mirrored, torch_rng(rng, device))
        with mixed_precision(device):
            logits = model(augmented)
        trainer.update(functional.cross_entropy(logits.float(), targets))
    return trainer.loss


def accuracy(predicted: list[Motion], scenes: list[Scene]) -> dict[str, float]:
    """Return the share of correct predictions for each motion in `scenes`, and for all of them as "all"."""
    pairs = list(zip(predicted, scenes, strict=True))
    correct = {motion: [value == motion for value, scene in pairs if scene.motion == motion] for motion in MOTIONS}
    shares = {motion: float(np.mean(found)) for motion, found in correct.items() if found}
    return shares | {"all": float(np.mean([value == scene.motion for value, scene in pairs]))}


def main(
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and rendered clips.")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="Total number of training steps.")] = 2400,
    scenes: Annotated[int, typer.Option(help="Number of clips to render for training.")] = 4000,
    held_out: Annotated[int, typer.Option(help="Number of evaluation clips, on which the accuracy is measured.")] = 350,
) -> None:
    """Train the motion classifier and write its accuracy on evaluation clips to FOLDER/motion_classifier.json."""
    limit_threads()
    train(folder, steps, scenes)
    evaluation_scenes = [sample_moving_scene(HELD_OUT + index) for index in range(held_out)]
    predicted = classify(load_motion_classifier(folder), clips(folder, held_out, first_seed=HELD_OUT))
    result = accuracy(predicted, evaluation_scenes)
    (folder / "motion_classifier.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    rich_print(result)


if __name__ == "__main__":
    typer.run(main)
