"""Quality of the latent-to-RGB matrix of the embedded model: `python -m bench.latent_rgb`.

Generates images with prompts and seeds that were not used to fit the matrix. The colours that `latent_to_rgb` returns
for the latents are compared with the pixels of the VAE in two ways: with the mean of the pixels of each latent cell,
and with the whole image after the colours are scaled up to its size.
"""

import argparse
import time
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.wire import PROMPTS, SEED
from codec_client import latent_to_rgb
from codec_golden.metrics import psnr_db, ssim_of_frames
from codec_pixels.device import Device
from codec_pixels.known_models import EMBEDDED, EMBEDDED_MODELS_DIR
from codec_wire.maps import LatentMapBundle
from codec_wire.request import GenerationRequest
from core.diffusers_engine.loader import ModelSource, load
from core.diffusers_engine.sampler import sample
from core.diffusers_engine.vae_engine import decode_frames
from core.engine import Job
from core.map_store import bundle_folder, find_latent_rgb
from core.plan import plan

STEPS = 8


def downsampled(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return the mean of each `factor` x `factor` pixels of images [N, H, W, 3]."""
    count, height, width, _ = pixels.shape
    cells = pixels.reshape(count, height // factor, factor, width // factor, factor, 3).mean(axis=(2, 4))
    rounded: NDArray[np.uint8] = cells.round().astype(np.uint8)
    return rounded


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=8, help="number of images (default: %(default)s)")
    count = parser.parse_args().count
    torch.set_num_threads(1)
    model = load(ModelSource(EMBEDDED.name, None, EMBEDDED_MODELS_DIR), Device.from_settings("cpu", "fp32", 1))
    info = model.info
    bundle = LatentMapBundle.from_folder(bundle_folder(EMBEDDED_MODELS_DIR, info.latent_space))
    matrix = find_latent_rgb(EMBEDDED_MODELS_DIR, info.latent_space, info.latent_channels)
    assert matrix is not None
    rows, seconds = [], []
    for number in range(count):
        prompt = PROMPTS[number % len(PROMPTS)]
        request = GenerationRequest(prompt=prompt, steps=STEPS, seed=SEED + number)
        latents = sample(model, plan(request, bundle, info), Job(), lambda _done, _total: None).float().numpy()
        started = time.process_time()
        colours = latent_to_rgb(latents, matrix)
        seconds.append(time.process_time() - started)
        pixels = decode_frames(model, latents)
        cells = downsampled(pixels, info.spatial_factor)
        large = np.asarray(Image.fromarray(colours[0]).resize(info.default_size, Image.Resampling.BICUBIC))[np.newaxis]
        rows.append(
            (
                psnr_db(cells, colours),
                ssim_of_frames(cells, colours)[0],
                psnr_db(pixels, large),
                ssim_of_frames(pixels, large)[0],
            )
        )
    print("| compared | mean | from | to |\n| --- | --- | --- | --- |")
    names = ("PSNR per cell, dB", "SSIM per cell", "PSNR scaled up, dB", "SSIM scaled up")
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        print(f"| {name} | {fmean(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    print(f"latent_to_rgb: {fmean(seconds) * 1000:.2f} ms of CPU time")


if __name__ == "__main__":
    main()
