"""Stage 5, a sharper decoder: `python -m training.polish` trains only the decoding half of the finished VAE.

Latents stay what they are, so the denoiser is not touched and this can be done at any time, for any length.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL
from torch import nn

from training.finish_vae import write
from training.machine import device, fast_math, limit_threads
from training.pictures import random_crops, scene_pictures, to_tensor
from training.run import Run
from training.state import DEFAULT_FOLDER
from training.vae import LARGE_BATCH, LARGE_CROP, decibels, picture_loss

PEAK_RATE, WARMUP = 4e-4, 100


def train(folder: Path, steps: int, scenes: int, held_out: int, seed: int = 3) -> float:
    """Train up to step `steps`, from the last state if any; write FOLDER/vae and return the last loss."""
    where = device()
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(where).eval()
    vae.requires_grad_(False)
    half = nn.ModuleList([vae.post_quant_conv, vae.decoder]).requires_grad_(True)
    run = Run(folder / "polish.pt", half, steps=steps, rate=PEAK_RATE, warmup=WARMUP, decay=0.998, seed=seed)
    pictures = scene_pictures(folder, scenes)
    for _, rng in run.rounds():
        wanted = to_tensor(random_crops(pictures, rng, LARGE_BATCH, LARGE_CROP), where)
        with fast_math(where):
            with torch.no_grad():
                latents = vae.encode(wanted).latent_dist.mean
            made = vae.decode(latents).sample.float()
        run.descend(picture_loss(made, wanted), psnr=decibels(made, wanted))
    run.average.copy_to(half.parameters())
    write(vae.eval(), folder, held_out)
    return run.loss


def main(
    folder: Annotated[Path, typer.Option(help="where states and the finished VAE are kept")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="the step to train up to")] = 5000,
    scenes: Annotated[int, typer.Option(help="how many scenes to draw")] = 4000,
    held_out: Annotated[int, typer.Option(help="how many unseen scenes to measure on")] = 128,
) -> None:
    """Sharpen the VAE's decoder, or go on from the last state."""
    limit_threads()
    train(folder, steps, scenes, held_out)


if __name__ == "__main__":
    typer.run(main)
