"""Effect of fewer sampling steps: `python -m training.fewer_steps` compares images of 10 and of 20 steps by their SSIM.

The captions and seeds are those of training.evaluate. Both images of a pair have the same seed.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich import print as rich_print
from rich.progress import track
from skimage.metrics import structural_similarity

from training.checkpoint import DEFAULT_FOLDER
from training.evaluate import STEPS, generate, load_pipeline
from training.images import HELD_OUT
from training.runtime import limit_threads
from training.scenes.captions import caption
from training.scenes.labels import sample_scene


def main(
    folder: Annotated[Path, typer.Option(help="Folder of the pipeline.")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="Number of steps that is compared with that of training.evaluate.")] = 10,
    count: Annotated[int, typer.Option(help="Number of pairs of images.")] = 48,
) -> None:
    """Print the mean and the lowest SSIM of images with few steps to those with the usual number of steps."""
    limit_threads()
    pipeline = load_pipeline(folder / "pipeline")
    values = []
    for scene in track([sample_scene(HELD_OUT + index) for index in range(count)], f"comparing {count} pairs"):
        prompt = caption(scene, np.random.default_rng((scene.seed, 7)))
        few, usual = (generate(pipeline, prompt, scene.seed, steps=number) for number in (steps, STEPS))
        values.append(structural_similarity(few, usual, channel_axis=2))  # type: ignore[no-untyped-call]
    rich_print({"steps": [steps, STEPS], "mean": float(np.mean(values)), "lowest": float(np.min(values))})


if __name__ == "__main__":
    typer.run(main)
