"""Quality of a saved VAE: `python -m training.measure_vae FOLDER` reconstructs evaluation scenes and compares them."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL
from rich import print as rich_print

from training.finish_vae import measure
from training.images import HELD_OUT, render_scenes
from training.runtime import limit_threads, select_device


def measure_saved(folder: Path, count: int, size: int) -> dict[str, float | list[float]]:
    """Return `measure` of the VAE in `folder`, in float32, on `count` evaluation scenes of `size` x `size` pixels."""
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).to(select_device()).eval()
    return measure(vae, render_scenes(HELD_OUT, count, size))


def main(
    vae: Annotated[Path, typer.Argument(help="Folder of the VAE, e.g. codec_scenes/scenes/vae.")],
    count: Annotated[int, typer.Option(help="Number of evaluation scenes.")] = 128,
    size: Annotated[int, typer.Option(help="Height and width of a scene in pixels.")] = 256,
) -> None:
    """Print PSNR, SSIM, gradient ratio and latent statistics of a saved VAE."""
    limit_threads()
    rich_print(measure_saved(vae, count, size))


if __name__ == "__main__":
    typer.run(main)
