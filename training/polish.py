"""Stage 5, a sharper decoder: `python -m training.polish` trains only the decoder of the finished VAE.

Latents do not change, so the denoiser and the motion adapter stay valid and the stage can be run at any time. It
trains on whole images: the group normalisation of a decoder trained on crops sees other statistics when it is used.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional

from training.checkpoint import DEFAULT_FOLDER
from training.discriminator import Discriminator, discriminator_loss
from training.finish_vae import write
from training.images import scene_images, to_tensor
from training.latents import scene_latents
from training.losses import structural_similarity, texture_loss
from training.runtime import limit_threads, mixed_precision, select_device
from training.trainer import Trainer
from training.vae import psnr, reconstruction_loss

PEAK_LEARNING_RATE, WARMUP = 1e-4, 100  # 4e-4 undid the final decay of stage 1: after 200 steps the loss had tripled
IMAGE_SIZE, BATCH = 256, 1
SSIM_WEIGHT, TEXTURE_WEIGHT = 0.3, 0.3
PSNR_WEIGHT = 0.01  # of the logarithm of the squared error, that is, of the PSNR
ADVERSARIAL_FROM = 800  # step; before it, detail is too blurred for the discriminator to be useful
DISCRIMINATOR_WEIGHT = 0.1  # keeps its gradient small in the norm that is clipped for both networks
ADVERSARIAL_SHARE = 0.2  # gradient norm of the adversarial loss relative to that of the other losses


def deepen(vae: AutoencoderKL, layers: int) -> AutoencoderKL:
    """Return a VAE with `layers` residual blocks per level that computes the same function as `vae`.

    The added blocks are identities before training. AutoencoderKL has one setting for encoder and decoder, so the
    encoder gets them too, where they remain identities because this stage does not train the encoder.
    """
    if vae.config.layers_per_block == layers:
        return vae
    settings = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    deeper = AutoencoderKL(**settings | {"layers_per_block": layers})
    weights = deeper.state_dict()
    for name, weight in weights.items():
        if ".conv2." in name:
            weight.zero_()
    deeper.load_state_dict(weights | vae.state_dict())
    return deeper.to(vae.device)


def decoder_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the loss of decoded images without its adversarial part."""
    return (
        reconstruction_loss(output, target)
        + SSIM_WEIGHT * (1 - structural_similarity(output, target))
        + TEXTURE_WEIGHT * texture_loss(output, target)
        + PSNR_WEIGHT * functional.mse_loss(output, target).log()
    )


def adversarial_losses(
    discriminator: Discriminator, output: torch.Tensor, target: torch.Tensor, loss: torch.Tensor, last: nn.Parameter
) -> torch.Tensor:
    """Return the sum of the adversarial losses of decoder and discriminator; neither trains the other network.

    The weight of the decoder's part makes its gradient at the decoder's last layer ADVERSARIAL_SHARE times as large as
    that of `loss` (Esser et al., "Taming transformers for high-resolution image synthesis", 2021).
    """
    discriminator.requires_grad_(False)
    decoder_part = -discriminator(output).mean()
    discriminator.requires_grad_(True)
    (reference,) = torch.autograd.grad(loss, last, retain_graph=True)
    (adversarial,) = torch.autograd.grad(decoder_part, last, retain_graph=True)
    weight = ADVERSARIAL_SHARE * reference.norm() / (adversarial.norm() + 1e-6)
    discriminator_part = discriminator_loss(discriminator(target), discriminator(output.detach()))
    total: torch.Tensor = weight * decoder_part + DISCRIMINATOR_WEIGHT * discriminator_part
    return total


def train(folder: Path, steps: int, scenes: int, held_out: int, *, layers: int = 1, seed: int = 3) -> float:
    """Train up to step `steps`, resuming from FOLDER/polish.pt; write FOLDER/vae and return the last loss.

    `layers` is the number of residual blocks per level of the trained VAE.
    """
    device = select_device()
    torch.manual_seed(seed)
    finished = AutoencoderKL.from_pretrained(folder / "vae").to(device).eval()
    images = scene_images(folder, scenes, IMAGE_SIZE)
    latents = scene_latents(folder, finished, scenes, IMAGE_SIZE // 8)
    vae = deepen(finished, layers).eval()
    vae.requires_grad_(False)
    decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder]).requires_grad_(True)
    discriminator = Discriminator().to(device)
    trainer = Trainer(
        folder / "polish.pt",
        nn.ModuleList([decoder, discriminator]),
        steps=steps,
        learning_rate=PEAK_LEARNING_RATE,
        warmup=WARMUP,
        decay=0.998,
        seed=seed,
    )
    for step, rng in trainer.remaining_steps():
        chosen = rng.integers(scenes, size=BATCH)
        target = to_tensor(images[chosen], device)
        with mixed_precision(device):
            encoded = latents[torch.from_numpy(chosen)].to(device).float() / vae.config.scaling_factor
            output = vae.decode(encoded).sample.float()
        loss = decoder_loss(output, target)
        if step >= ADVERSARIAL_FROM:
            loss = loss + adversarial_losses(discriminator, output, target, loss, vae.decoder.conv_out.weight)
        trainer.update(loss, psnr=psnr(output, target))
    trainer.average.copy_to(trainer.model.parameters())
    write(vae.eval(), folder, held_out)
    return trainer.loss


def main(
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and the finished VAE.")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="Total number of training steps.")] = 1300,
    scenes: Annotated[int, typer.Option(help="Number of scenes to render for training.")] = 4000,
    layers: Annotated[int, typer.Option(help="Residual blocks per level; more than stage 1's 1 deepens the VAE.")] = 1,
    held_out: Annotated[int, typer.Option(help="Number of evaluation scenes to measure on.")] = 128,
) -> None:
    """Train the decoder of the finished VAE, or resume its training."""
    limit_threads()
    train(folder, steps, scenes, held_out, layers=layers)


if __name__ == "__main__":
    typer.run(main)
