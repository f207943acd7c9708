"""Stage 5, a sharper decoder: `python -m training.polish` trains only the decoder of the finished VAE.

This stage does not change latents, so the denoiser and the motion adapter remain valid, and the stage can be run at any
time. It trains on whole images, because the statistics of group normalisation differ between crops and whole images.
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
from training.runtime import limit_threads, select_device
from training.trainer import Trainer
from training.vae import psnr, reconstruction_loss

PEAK_LEARNING_RATE, WARMUP = 2e-4, 100  # with AdamW and a peak of 4e-4, the loss tripled in 200 steps
IMAGE_SIZE, BATCH = 256, 1
SSIM_WEIGHT, TEXTURE_WEIGHT = 0.3, 1.0  # with a texture weight of 0.3, images stay more blurred
PSNR_WEIGHT = 0.01  # weight of the logarithm of the squared error, which is the PSNR up to a factor
DISCRIMINATOR_WEIGHT = 0.1  # small, because the gradient norm is clipped for both networks together
ADVERSARIAL_SHARE = 0.2  # gradient norm of the adversarial loss relative to that of the other losses


def deepen(vae: AutoencoderKL, layers: int) -> AutoencoderKL:
    """Return a VAE with `layers` residual blocks per level that computes the same function as `vae`.

    Before training, the added blocks are identities. AutoencoderKL has one setting for encoder and decoder, so the
    encoder also gets these blocks. They remain identities there, because this stage does not train the encoder.
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
    """Return the sum of the adversarial losses of the decoder and the discriminator.

    Each of the two losses trains only its own network. The decoder's loss is weighted so that its gradient at the
    decoder's last layer is ADVERSARIAL_SHARE times as large as that of `loss` (Esser et al., "Taming transformers for
    high-resolution image synthesis", 2021).
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


def train(
    folder: Path,
    steps: int,
    scenes: int,
    held_out: int,
    *,
    layers: int = 1,
    muon: bool = True,
    adversarial_from: int | None = None,
    seed: int = 3,
) -> float:
    """Train up to step `steps`, resuming from FOLDER/polish.pt; write FOLDER/vae and return the last loss.

    `layers` is the number of residual blocks per level of the trained VAE, `adversarial_from` the first step with a
    discriminator, or None to train without one. If `muon` is true, Muon optimises the kernels.
    """
    device = select_device()
    torch.manual_seed(seed)
    finished = AutoencoderKL.from_pretrained(folder / "vae").to(device).eval()
    images = scene_images(folder, scenes, IMAGE_SIZE)
    latents = scene_latents(folder, finished, scenes, IMAGE_SIZE // 8)
    # A step with channels-last weights takes 19 to 25 % less CPU time (training/README.md).
    vae = deepen(finished, layers).eval().to(memory_format=torch.channels_last)
    vae.requires_grad_(False)
    decoder = nn.ModuleList([vae.post_quant_conv, vae.decoder]).requires_grad_(True)
    discriminator = Discriminator().to(device)
    trainer = Trainer(
        folder / "polish.pt",
        nn.ModuleList([decoder, discriminator]),
        steps=steps,
        learning_rate=PEAK_LEARNING_RATE,
        warmup=WARMUP,
        decay=0.999,  # diffusers starts with a lower decay, which reaches this value after 9,000 steps
        seed=seed,
        muon=muon,
    )
    for step, rng in trainer.remaining_steps():
        chosen = rng.integers(scenes, size=BATCH)
        target = to_tensor(images[chosen], device)
        # On a CPU, bfloat16 is not faster here (training/README.md) and rounds the output.
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            encoded = latents[torch.from_numpy(chosen)].to(device).float() / vae.config.scaling_factor
            output = vae.decode(encoded).sample.float().contiguous()  # the loss is slower in channels-last
        loss = decoder_loss(output, target)
        if adversarial_from is not None and step >= adversarial_from:
            loss = loss + adversarial_losses(discriminator, output, target, loss, vae.decoder.conv_out.weight)
        trainer.update(loss, psnr=psnr(output, target))
    trainer.average.copy_to(trainer.model.parameters())
    write(vae.eval(), folder, held_out)
    return trainer.loss


def main(
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and the finished VAE.")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="Total number of training steps.")] = 12_000,
    scenes: Annotated[int, typer.Option(help="Number of scenes to render for training.")] = 2000,
    layers: Annotated[
        int, typer.Option(help="Residual blocks per level. The VAE of stage 1 has 1; a larger number deepens it.")
    ] = 1,
    *,
    muon: Annotated[
        bool,
        typer.Option(
            help="Optimise kernels with Muon: better after the same steps, but slow without bfloat16 instructions."
        ),
    ] = True,
    adversarial_from: Annotated[
        int | None,
        typer.Option(
            help="First step with a discriminator, which makes each step slower, e.g. 8000. Default: no discriminator.",
            show_default=False,
        ),
    ] = None,
    held_out: Annotated[int, typer.Option(help="Number of evaluation scenes, on which the quality is measured.")] = 128,
) -> None:
    """Train the decoder of the finished VAE, or resume its training."""
    limit_threads()
    train(folder, steps, scenes, held_out, layers=layers, muon=muon, adversarial_from=adversarial_from)


if __name__ == "__main__":
    typer.run(main)
