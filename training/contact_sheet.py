"""Contact sheet of generated images: `python -m training.contact_sheet` writes a PNG."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image as PILImage
from rich.progress import track

from training.checkpoint import DEFAULT_FOLDER
from training.evaluate import generate, load_pipeline
from training.runtime import limit_threads

PROMPTS = (
    "a wide-angle photograph of a snowy mountain at dusk",
    "a photograph of the sea at sunset",
    "a desert with cacti at noon",
    "a foggy pine forest at dawn",
    "a rainy city at night",
    "an aerial view of farmland by day, with clouds in the sky",
    "a mountain range under a clear sky at night",
    "a city skyline in the evening",
)


def main(
    folder: Annotated[Path, typer.Option(help="Folder of the pipeline.")] = DEFAULT_FOLDER,
    seeds: Annotated[int, typer.Option(help="Number of images per prompt.")] = 4,
    size: Annotated[int, typer.Option(help="Height and width of an image in pixels.")] = 256,
) -> None:
    """Write FOLDER/contact-sheet.png with one row per prompt and one column per seed."""
    limit_threads()
    pipeline = load_pipeline(folder / "pipeline")
    rows = [
        np.concatenate([generate(pipeline, prompt, seed, size) for seed in range(seeds)], axis=1)
        for prompt in track(PROMPTS, "generating")
    ]
    PILImage.fromarray(np.concatenate(rows, axis=0)).save(folder / "contact-sheet.png")


if __name__ == "__main__":
    typer.run(main)
