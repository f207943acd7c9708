"""Stage 5, a sharper decoder: `python -m training.polish` trains only the decoding half of the finished VAE.

Latents stay what they are, so the denoiser is not touched and this can be done at any time, for any length.
"""

import math
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn import functional

from training.machine import device, fast_math, limit_threads, step_rng
from training.pictures import random_crops, scene_pictures, to_tensor
from training.progress import Meter
from training.state import DEFAULT_FOLDER, load_state, save_state
from training.vae import LARGE_BATCH, LARGE_CROP, picture_loss, rate_at

PEAK_RATE, WARMUP = 4e-4, 100
SAVE_EVERY = 250


def train(folder: Path, steps: int, scenes: int, seed: int = 3) -> float:
    """Train up to step `steps`, from the last state if any; write FOLDER/vae and return the last loss."""
    where = device()
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(where).eval()
    vae.requires_grad_(False)
    half = nn.ModuleList([vae.post_quant_conv, vae.decoder]).requires_grad_(True)
    optimizer = torch.optim.AdamW(half.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    average = EMAModel(half.parameters(), decay=0.998, foreach=True)
    path, start = folder / "polish.pt", 0
    if (state := load_state(path, where)) is not None:
        half.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        start = state["step"]
    pictures = scene_pictures(folder, scenes)
    meter, loss = Meter("polish", start, steps), torch.zeros(())
    for step in meter.steps():
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps, PEAK_RATE, WARMUP)
        crops = random_crops(pictures, step_rng(seed, step), LARGE_BATCH, LARGE_CROP)
        wanted = to_tensor(crops, where)
        with fast_math(where):
            with torch.no_grad():
                latents = vae.encode(wanted).latent_dist.mean
            made = vae.decode(latents).sample.float()
        loss = picture_loss(made, wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(half.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.step(half.parameters())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            psnr = -10 * math.log10(functional.mse_loss(made, wanted).item() / 4)
            meter.note(step, loss=loss.item(), psnr=psnr)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            state = {"model": half.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            save_state(path, state | {"average": average.state_dict()})
    average.copy_to(half.parameters())
    vae.save_pretrained(folder / "vae")
    return loss.item()


def main(
    folder: Annotated[Path, typer.Option(help="where states and the finished VAE are kept")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="the step to train up to")] = 5000,
    scenes: Annotated[int, typer.Option(help="how many scenes to draw")] = 4000,
) -> None:
    """Sharpen the VAE's decoder, or go on from the last state."""
    limit_threads()
    train(folder, steps, scenes)


if __name__ == "__main__":
    typer.run(main)
