"""Contact sheet of rendered scenes: `python -m training.scenes.contact_sheet PATH` writes a PNG."""

from itertools import product
from pathlib import Path

import numpy as np
import typer
from PIL import Image as PILImage

from training.scenes.labels import CAMERAS, PLACES, TIMES, WEATHERS, Scene
from training.scenes.render import render


def main(path: Path, size: int = 256, seed: int = 0) -> None:
    """Write a PNG to PATH with a row for each place and weather and a column for each time of day."""
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
    PILImage.fromarray(np.concatenate(rows, axis=0)).save(path)


if __name__ == "__main__":
    typer.run(main)
