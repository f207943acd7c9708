"""A contact sheet of scenes, to be looked at: a row a place, a column a time, weathers in turn."""

from itertools import product
from pathlib import Path

import numpy as np
import typer
from PIL import Image as Picture

from training.scenes.labels import CAMERAS, PLACES, TIMES, WEATHERS, Scene
from training.scenes.render import render


def main(path: Path, size: int = 256, seed: int = 0) -> None:
    """Write a PNG of six places  by  four times  by  five weathers, cameras in turn."""
    rows = []
    for index, (place, weather) in enumerate(product(PLACES, WEATHERS)):
        cells = [
            render(
                Scene(place, time, weather, CAMERAS[(index + column) % 3], seed + 97 * index + column),
                size,
                size,
            )
            for column, time in enumerate(TIMES)
        ]
        rows.append(np.concatenate(cells, axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(np.concatenate(rows, axis=0)).save(path)


if __name__ == "__main__":
    typer.run(main)
