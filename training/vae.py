"""Stage 1, the VAE: `python -m training.vae` trains an AutoencoderKL on crops of scenes."""

import math
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn import functional

from training.machine import device, fast_math, limit_threads, step_rng, torch_rng
from training.pictures import random_crops, scene_pictures, to_tensor
from training.progress import Meter
from training.state import DEFAULT_FOLDER, load_state, save_state

CHANNELS = (16, 32, 64, 96)
SMALL_CROP, SMALL_BATCH, SMALL_STEPS = 64, 16, 3600
LARGE_CROP, LARGE_BATCH = 128, 4  # afterwards: normalisation sees statistics nearer to a whole picture's
PEAK_RATE, WARMUP = 1e-3, 100
KL_WEIGHT = 2e-7  # of the divergence summed over a crop's 256 latents; 1e-3 of the mean killed a channel
EDGE_WEIGHT = 0.2
SAVE_EVERY = 500


def new_vae(channels: tuple[int, ...] = CHANNELS) -> AutoencoderKL:
    """Return an untrained VAE, [B, 3, H, W] ⇄ [B, 4, H/8, W/8]."""
    levels = len(channels)
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=256,
        scaling_factor=1.0,  # measured when training is over
    )
    start_near_identity(vae)
    return vae


@torch.no_grad()
def start_near_identity(vae: AutoencoderKL) -> None:
    """Let every block begin by passing on what it gets; colours so reach the latents at once.

    Measured after 120 steps: 19.4 dB instead of 18.6 dB (24, 48, 96, 96 channels, batch 8).
    """
    for part in vae.modules():
        match part:
            case ResnetBlock2D():
                part.conv2.weight.zero_()
                part.conv2.bias.zero_()
                if part.conv_shortcut is not None:
                    nn.init.orthogonal_(part.conv_shortcut.weight)
            case Downsample2D():
                part.conv.weight.mul_(0.1)[range(part.channels), range(part.channels), :2, :2] += 0.25
            case Upsample2D():
                part.conv.weight.mul_(0.1)[range(part.channels), range(part.channels), 1, 1] += 1
            case _:
                pass


def picture_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return how far two batches [B, 3, H, W] differ, in pixels and (to stay sharp) in edges."""
    wrong = made - wanted
    edges = wrong.diff(dim=2).abs().mean() + wrong.diff(dim=3).abs().mean()
    return wrong.abs().mean() + EDGE_WEIGHT * edges


def rate_at(step: int, steps: int, peak: float, warmup: int) -> float:
    """Return the learning rate: up in a line, then down along a cosine to a hundredth."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def train(
    folder: Path, steps: int, scenes: int, channels: tuple[int, ...] = CHANNELS, seed: int = 0
) -> float:
    """Train up to step `steps`, from the last state in `folder` where there is one; return the last loss."""
    where = device()
    torch.manual_seed(seed)
    vae = new_vae(channels).to(where)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    average = EMAModel(vae.parameters(), decay=0.998, foreach=True)
    path, start = folder / "vae.pt", 0
    if (state := load_state(path, where)) is not None:
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        start = state["step"]
    pictures = scene_pictures(folder, scenes)
    meter, loss = Meter("vae", start, steps), torch.zeros(())
    for step in meter.steps():
        rng = step_rng(seed, step)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps, PEAK_RATE, WARMUP)
        small = step < SMALL_STEPS
        count, size = (SMALL_BATCH, SMALL_CROP) if small else (LARGE_BATCH, LARGE_CROP)
        wanted = to_tensor(random_crops(pictures, rng, count, size), where)
        with fast_math(where):
            latents = vae.encode(wanted).latent_dist
            made = vae.decode(latents.sample(torch_rng(rng, where))).sample
        loss = picture_loss(made.float(), wanted)
        (loss + KL_WEIGHT * latents.kl().float().mean()).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.step(vae.parameters())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            psnr = -10 * math.log10(functional.mse_loss(made.float(), wanted).item() / 4)
            meter.note(step, loss=loss.item(), psnr=psnr)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            state = {"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            save_state(path, state | {"average": average.state_dict()})
    return loss.item()


def main(
    folder: Annotated[Path, typer.Option(help="where states and drawn scenes are kept")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="the step to train up to")] = 8000,
    scenes: Annotated[int, typer.Option(help="how many scenes to draw")] = 4000,
) -> None:
    """Train the VAE, or go on from its last state."""
    limit_threads()
    train(folder, steps, scenes)


if __name__ == "__main__":
    typer.run(main)
