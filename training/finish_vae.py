"""Stage 2, the latent space: `python -m training.finish_vae` gives each latent channel mean 0 and variance 1.

That is folded into the two pointwise convolutions around the latents, so pictures do not change by it.
It also measures how well unseen scenes survive the VAE.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL
from rich import print as show
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from training.machine import device, fast_math, limit_threads
from training.pictures import HELD_OUT, scene_pictures, to_pictures, to_tensor
from training.run import load_average
from training.scenes.render import Image
from training.state import DEFAULT_FOLDER
from training.vae import CHANNELS, new_vae


def averaged_vae(folder: Path, channels: tuple[int, ...] = CHANNELS) -> AutoencoderKL:
    """Return the trained VAE with its averaged weights."""
    vae = new_vae(channels).to(device()).eval()
    load_average(folder / "vae.pt", vae)
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Image, batch: int = 4) -> torch.Tensor:
    """Return the scaled mean latents of pictures uint8 [N, H, W, 3], float32 [N, 4, H/8, W/8] on the CPU."""
    where, parts = vae.device, []
    for start in range(0, len(pictures), batch):
        with fast_math(where):
            latents = vae.encode(to_tensor(pictures[start : start + batch], where)).latent_dist.mean
        parts.append(latents.float().cpu() * vae.config.scaling_factor)
    return torch.cat(parts)


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor) -> Image:
    """Return the pictures of scaled latents [N, 4, h, w], one at a time, uint8 [N, 8h, 8w, 3]."""
    singles = torch.split(latents.to(vae.device, vae.dtype), 1)
    return np.concatenate([to_pictures(vae.decode(one / vae.config.scaling_factor).sample) for one in singles])


@torch.no_grad()
def standardise(vae: AutoencoderKL, latents: torch.Tensor) -> None:
    """Make the channels of `latents` [N, 4, h, w], which the VAE made, come out with mean 0, deviation 1."""
    mean = latents.mean(dim=(0, 2, 3)).to(vae.device)
    deviation = latents.std(dim=(0, 2, 3)).to(vae.device)
    into, out = vae.quant_conv, vae.post_quant_conv
    count = len(mean)
    into.weight[:count] /= deviation[:, None, None, None]
    into.bias[:count] = (into.bias[:count] - mean) / deviation
    into.bias[count:] -= 2 * deviation.log()  # the other half of the outputs are logarithms of variances
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= deviation[None, :, None, None]


def measure(vae: AutoencoderKL, pictures: Image) -> dict[str, float | list[float]]:
    """Return PSNR (dB) and SSIM of reconstructed pictures, mean and worst, and statistics of the channels."""
    latents = encode(vae, pictures)
    made = decode(vae, latents)
    pairs = list(zip(pictures, made, strict=True))
    psnr = [peak_signal_noise_ratio(*pair) for pair in pairs]  # type: ignore[no-untyped-call]
    ssim = [structural_similarity(*pair, channel_axis=2) for pair in pairs]  # type: ignore[no-untyped-call]
    return {
        "psnr": float(np.mean(psnr)),
        "psnr_worst": float(np.min(psnr)),
        "ssim": float(np.mean(ssim)),
        "ssim_worst": float(np.min(ssim)),
        "channel_means": latents.mean(dim=(0, 2, 3)).tolist(),
        "channel_deviations": latents.std(dim=(0, 2, 3)).tolist(),
    }


def write(vae: AutoencoderKL, folder: Path, held_out: int) -> None:
    """Write the VAE to FOLDER/vae and its quality on `held_out` unseen scenes to FOLDER/vae.json."""
    quality = measure(vae, scene_pictures(folder, held_out, first_seed=HELD_OUT))
    vae.save_pretrained(folder / "vae")
    (folder / "vae.json").write_text(json.dumps(quality, indent=2) + "\n", encoding="utf-8")
    show(quality | {"scaling_factor": vae.config.scaling_factor})


def main(
    folder: Annotated[Path, typer.Option(help="where states and drawn scenes are kept")] = DEFAULT_FOLDER,
    held_out: Annotated[int, typer.Option(help="how many unseen scenes to measure on")] = 128,
) -> None:
    """Give the latents their statistics and write the finished VAE."""
    limit_threads()
    vae = averaged_vae(folder)
    seen = scene_pictures(folder, 384)
    standardise(vae, encode(vae, seen[:256]))
    # Measured, through the folded convolutions and on other scenes, rather than taken to be 1.
    vae.register_to_config(scaling_factor=1 / float(encode(vae, seen[256:]).std()))
    write(vae, folder, held_out)


if __name__ == "__main__":
    typer.run(main)
