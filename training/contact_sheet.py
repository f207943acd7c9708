"""What the pipeline makes, to be looked at: `python -m training.contact_sheet` writes a PNG."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image as Picture
from rich.progress import track

from training.evaluate import generate, load_pipeline
from training.machine import limit_threads
from training.state import DEFAULT_FOLDER

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
    folder: Annotated[Path, typer.Option(help="where the pipeline is kept")] = DEFAULT_FOLDER,
    seeds: Annotated[int, typer.Option(help="pictures to a prompt")] = 4,
    size: Annotated[int, typer.Option(help="side of a picture in pixels")] = 256,
) -> None:
    """Write FOLDER/contact-sheet.png with a row to a prompt and a column to a seed."""
    limit_threads()
    pipeline = load_pipeline(folder / "pipeline")
    rows = [
        np.concatenate([generate(pipeline, prompt, seed, size) for seed in range(seeds)], axis=1)
        for prompt in track(PROMPTS, "generating")
    ]
    Picture.fromarray(np.concatenate(rows, axis=0)).save(folder / "contact-sheet.png")


if __name__ == "__main__":
    typer.run(main)
