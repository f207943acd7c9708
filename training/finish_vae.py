"""Stage 2, the latent space: `python -m training.finish_vae` normalises the latents and writes the finished VAE.

Each latent channel gets mean 0 and variance 1. The normalisation is folded into the two 1x1 convolutions next to the
latents, so decoded images do not change. The reconstruction quality is measured on scenes not used for training.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL
from rich import print as rich_print
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from training.checkpoint import DEFAULT_FOLDER
from training.detail import gradient_magnitude
from training.images import HELD_OUT, scene_images, to_images, to_tensor
from training.runtime import limit_threads, mixed_precision, select_device
from training.scenes.render import Image
from training.trainer import load_averaged_weights
from training.vae import CHANNELS, new_vae


def averaged_vae(folder: Path, channels: tuple[int, ...] = CHANNELS) -> AutoencoderKL:
    """Return the VAE of stage 1 with the moving average of its weights."""
    vae = new_vae(channels).to(select_device()).eval()
    load_averaged_weights(folder / "vae.pt", vae)
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Image, batch: int = 4) -> torch.Tensor:
    """Encode images uint8 [N, H, W, 3]; return the scaled posterior means, float32 [N, 4, H/8, W/8] on the CPU."""
    device, parts = vae.device, []
    for start in range(0, len(images), batch):
        with mixed_precision(device):
            latents = vae.encode(to_tensor(images[start : start + batch], device)).latent_dist.mean
        parts.append(latents.float().cpu() * vae.config.scaling_factor)
    return torch.cat(parts)


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: torch.Tensor) -> Image:
    """Decode scaled latents [N, 4, h, w] one at a time; return images uint8 [N, 8h, 8w, 3]."""
    singles = torch.split(latents.to(vae.device, vae.dtype), 1)
    return np.concatenate([to_images(vae.decode(single / vae.config.scaling_factor).sample) for single in singles])


@torch.no_grad()
def standardise(vae: AutoencoderKL, latents: torch.Tensor) -> None:
    """Change the VAE so that each channel of its output `latents` [N, 4, h, w] gets mean 0 and standard deviation 1."""
    mean = latents.mean(dim=(0, 2, 3)).to(vae.device)
    deviation = latents.std(dim=(0, 2, 3)).to(vae.device)
    to_latents, from_latents = vae.quant_conv, vae.post_quant_conv
    count = len(mean)
    to_latents.weight[:count] /= deviation[:, None, None, None]
    to_latents.bias[:count] = (to_latents.bias[:count] - mean) / deviation
    to_latents.bias[count:] -= 2 * deviation.log()  # the second half of the channels holds log-variances
    from_latents.bias += from_latents.weight[:, :, 0, 0] @ mean
    from_latents.weight *= deviation[None, :, None, None]


def measure(vae: AutoencoderKL, images: Image) -> dict[str, float | list[float]]:
    """Return quality and latent statistics of the VAE on `images` uint8 [N, H, W, 3].

    The result has the mean and the lowest PSNR (dB) and SSIM of the reconstructions, the ratio of their mean gradient
    magnitude to that of the images (below 1: blurred), and mean and deviation of each latent channel.
    """
    latents = encode(vae, images)
    decoded = decode(vae, latents)
    pairs = list(zip(images, decoded, strict=True))
    psnr = [peak_signal_noise_ratio(*pair) for pair in pairs]  # type: ignore[no-untyped-call]
    ssim = [structural_similarity(*pair, channel_axis=2) for pair in pairs]  # type: ignore[no-untyped-call]
    return {
        "psnr": float(np.mean(psnr)),
        "psnr_worst": float(np.min(psnr)),
        "ssim": float(np.mean(ssim)),
        "ssim_worst": float(np.min(ssim)),
        "gradient_ratio": gradient_magnitude(decoded) / gradient_magnitude(images),
        "channel_means": latents.mean(dim=(0, 2, 3)).tolist(),
        "channel_deviations": latents.std(dim=(0, 2, 3)).tolist(),
    }


def write(vae: AutoencoderKL, folder: Path, held_out: int) -> None:
    """Write the VAE to FOLDER/vae and its quality on `held_out` evaluation scenes to FOLDER/vae.json."""
    quality = measure(vae, scene_images(folder, held_out, first_seed=HELD_OUT))
    vae.save_pretrained(folder / "vae")
    (folder / "vae.json").write_text(json.dumps(quality, indent=2) + "\n", encoding="utf-8")
    rich_print(quality | {"scaling_factor": vae.config.scaling_factor})


def main(
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and rendered scenes.")] = DEFAULT_FOLDER,
    held_out: Annotated[int, typer.Option(help="Number of evaluation scenes, on which the quality is measured.")] = 128,
) -> None:
    """Normalise the latents and write the finished VAE."""
    limit_threads()
    vae = averaged_vae(folder)
    images = scene_images(folder, 384)
    standardise(vae, encode(vae, images[:256]))
    # Close to 1 after standardisation. It is measured on scenes that were not used for the standardisation.
    vae.register_to_config(scaling_factor=1 / float(encode(vae, images[256:]).std()))
    write(vae, folder, held_out)


if __name__ == "__main__":
    typer.run(main)
