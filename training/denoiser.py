"""Stage 3, the denoiser: `python -m training.denoiser` trains a UNet and a text encoder on latents.

Training starts with small latents, because a step is cheap and the meaning of words can be learned. It continues with
the sizes that will be served.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.checkpoint import DEFAULT_FOLDER
from training.latents import scene_latents
from training.runtime import limit_threads, mixed_precision, select_device, torch_rng
from training.scenes.clip_captions import image_caption
from training.scenes.labels import Scene, sample_scene
from training.tokenizer import MAX_TOKENS, build_tokenizer
from training.trainer import Trainer, load_averaged_weights

CHANNELS = (64, 128, 160)
TEXT_WIDTH = 192
BATCHES = {16: 32, 32: 16, 64: 4}  # batch size for each latent height and width
SMALL_STEPS = 1400  # number of steps with 16x16 latents, before training continues with 32x32, the default size
LARGE_FROM, LARGE_INTERVAL = 3000, 8  # from step 3000 on, every eighth step uses 64x64 latents
PEAK_LEARNING_RATE, WARMUP = 1.5e-3, 100
EMPTY_CAPTION_SHARE = 0.1  # share of empty captions, which classifier-free guidance requires
MOTION_CAPTION_SHARE = 0.1  # share of captions with a motion, which must not change still images

# Noise schedule: v-prediction with zero terminal SNR, so the last timestep is pure noise.
NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "clip_sample": False,
}


def new_unet(channels: tuple[int, ...] = CHANNELS) -> UNet2DConditionModel:
    """Return an untrained UNet. Its highest resolution has no attention, which would be the most expensive part."""
    levels = len(channels) - 1
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=["DownBlock2D", *["CrossAttnDownBlock2D"] * levels],
        up_block_types=[*["CrossAttnUpBlock2D"] * levels, "UpBlock2D"],
        block_out_channels=channels,
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained two-layer text encoder: token ids [B, 77] to embeddings [B, 77, 192]."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Denoiser(nn.Module):
    """UNet and text encoder, trained together."""

    def __init__(self, tokenizer: CLIPTokenizer, channels: tuple[int, ...] = CHANNELS) -> None:
        """Create untrained networks for the vocabulary of `tokenizer`."""
        super().__init__()
        self.tokenizer = tokenizer
        self.unet = new_unet(channels)
        self.text = new_text_encoder(tokenizer)

    def encode_captions(self, captions: list[str]) -> torch.Tensor:
        """Return the text embeddings that condition the UNet, [B, 77, 192]."""
        tokens = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
        encoded: torch.Tensor = self.text(tokens.input_ids.to(self.unet.device)).last_hidden_state
        return encoded

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, captions: list[str]) -> torch.Tensor:
        """Return the velocity (v-prediction) of noisy latents [B, 4, h, w] at timesteps int64 [B]."""
        predicted: torch.Tensor = self.unet(noisy, timesteps, self.encode_captions(captions)).sample
        return predicted


def latent_size_at(step: int) -> int:
    """Return the height and width of the latents used in training step `step`."""
    if step < SMALL_STEPS:
        return 16
    return 64 if step >= LARGE_FROM and step % LARGE_INTERVAL == 0 else 32


def draw_captions(rng: np.random.Generator, scenes: Sequence[Scene]) -> list[str]:
    """Return one random caption per scene: some are empty, some describe a motion."""
    return [
        "" if rng.random() < EMPTY_CAPTION_SHARE else image_caption(scene, rng, MOTION_CAPTION_SHARE)[0]
        for scene in scenes
    ]


def stratified_timesteps(rng: np.random.Generator, count: int) -> torch.Tensor:
    """Return one random timestep from each of `count` equal intervals of 0 to 999, int64 [count].

    Thus every batch contains all noise levels, which lowers the variance of the loss.
    """
    return torch.from_numpy(((np.arange(count) + rng.random(count)) * 1000 / count).astype(np.int64))


def train(
    folder: Path,
    steps: int,
    scenes: int,
    channels: tuple[int, ...] = CHANNELS,
    seed: int = 1,
) -> float:
    """Train up to step `steps`, resuming from FOLDER/denoiser.pt if it exists; return the last loss."""
    device = select_device()
    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device).eval()
    counts = {16: scenes, 32: scenes, 64: scenes // 8}
    model = Denoiser(build_tokenizer(), channels).to(device)
    # On a CPU the backward pass of unfused attention is faster than that of torch's fused attention.
    model.unet.set_attn_processor(AttnProcessor())
    trainer = Trainer(
        folder / "denoiser.pt",
        model,
        steps=steps,
        learning_rate=PEAK_LEARNING_RATE,
        warmup=WARMUP,
        decay=0.998,
        seed=seed,
        muon=True,
    )
    scheduler = DDPMScheduler(**NOISE)
    sides = sorted({latent_size_at(step) for step in range(trainer.start, steps)})
    latents = {side: scene_latents(folder, vae, counts[side], side) for side in sides}
    for step, rng in trainer.remaining_steps():
        side = latent_size_at(step)
        chosen = rng.integers(counts[side], size=BATCHES[side])
        clean = latents[side][torch.from_numpy(chosen)].to(device).float()
        noise = torch.randn(clean.shape, generator=torch_rng(rng, device), device=device)
        timesteps = stratified_timesteps(rng, len(chosen)).to(device)
        captions = draw_captions(rng, [sample_scene(int(seed)) for seed in chosen])
        with mixed_precision(device):
            predicted = model(scheduler.add_noise(clean, noise, timesteps), timesteps, captions)
        target = scheduler.get_velocity(clean, noise, timesteps)
        trainer.update(functional.mse_loss(predicted.float(), target), side=side)
    return trainer.loss


def averaged_denoiser(folder: Path, channels: tuple[int, ...] = CHANNELS) -> Denoiser:
    """Return the denoiser of this stage with the moving average of its weights."""
    model = Denoiser(build_tokenizer(), channels).to(select_device()).eval()
    load_averaged_weights(folder / "denoiser.pt", model)
    return model


def main(
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and latents.")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="Total number of training steps.")] = 4600,
    scenes: Annotated[int, typer.Option(help="Number of scenes to encode, a multiple of 500.")] = 6000,
) -> None:
    """Train the denoiser, or resume its training."""
    limit_threads()
    train(folder, steps, scenes)


if __name__ == "__main__":
    typer.run(main)
