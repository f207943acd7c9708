"""Stage 3, the denoiser: `python -m training.denoiser` trains a UNet and a text encoder on latents.

It starts on small latents, where a step is cheap and teaches what words mean, and goes on at the sizes that
it is to serve.
"""

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

from training.latents import scene_latents
from training.machine import device, fast_math, limit_threads, torch_rng
from training.run import Run
from training.scenes.captions import caption
from training.scenes.labels import MOTIONS, sample_scene
from training.state import DEFAULT_FOLDER
from training.tokenizer import MAX_TOKENS, build_tokenizer

CHANNELS = (64, 128, 160)
TEXT_WIDTH = 192
BATCHES = {16: 32, 32: 16, 64: 4}  # pictures a step, by the side of their latents
SMALL_STEPS = 1400  # on 16 by 16 before the native 32 by 32
LARGE_FROM, LARGE_EVERY = 3000, 8  # from then on, every so many steps are on 64 by 64
PEAK_RATE, WARMUP = 1.5e-3, 100
UNCONDITIONED = 0.1  # share of captions left out, for classifier-free guidance
MOVING = 0.1  # share of captions that speak of motion

# The noise that training adds: v-prediction, and nothing left of the picture at the last step.
NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "clip_sample": False,
}


def new_unet(channels: tuple[int, ...] = CHANNELS) -> UNet2DConditionModel:
    """Return an untrained UNet; its finest level has no attention, which keeps a step cheap."""
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
    """Return an untrained two-layer text encoder for a tokenizer: [B, 77] token numbers to [B, 77, 192]."""
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
    """The two networks that are trained together."""

    def __init__(self, tokenizer: CLIPTokenizer, channels: tuple[int, ...] = CHANNELS) -> None:
        """Start untrained."""
        super().__init__()
        self.tokenizer = tokenizer
        self.unet = new_unet(channels)
        self.text = new_text_encoder(tokenizer)

    def words(self, captions: list[str]) -> torch.Tensor:
        """Return what the UNet sees of captions, [B, 77, 192]."""
        tokens = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
        encoded: torch.Tensor = self.text(tokens.input_ids.to(self.unet.device)).last_hidden_state
        return encoded

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, captions: list[str]) -> torch.Tensor:
        """Return the predicted velocity of latents [B, 4, h, w] at time steps [B]."""
        predicted: torch.Tensor = self.unet(noisy, times, self.words(captions)).sample
        return predicted


def side_at(step: int) -> int:
    """Return the side of the latents that a step trains on."""
    if step < SMALL_STEPS:
        return 16
    return 64 if step >= LARGE_FROM and step % LARGE_EVERY == 0 else 32


def draw_captions(rng: np.random.Generator, scenes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[str]:
    """Return fresh captions of scenes: some empty, some with words of motion, which a still must survive."""
    drawn = []
    for seed in scenes:
        scene, chance = sample_scene(int(seed)), rng.random()
        if chance > 1 - MOVING:
            scene = scene.moving(MOTIONS[int(rng.integers(len(MOTIONS)))])
        drawn.append("" if chance < UNCONDITIONED else caption(scene, rng))
    return drawn


def spread_times(rng: np.random.Generator, count: int) -> torch.Tensor:
    """Return a time step from each of `count` equal stretches, int64: every batch sees all noise levels."""
    return torch.from_numpy(((np.arange(count) + rng.random(count)) * 1000 / count).astype(np.int64))


def train(
    folder: Path,
    steps: int,
    scenes: int,
    channels: tuple[int, ...] = CHANNELS,
    seed: int = 1,
) -> float:
    """Train up to step `steps`, from the last state in `folder` where there is one; return the last loss."""
    where = device()
    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(where).eval()
    counts = {16: scenes, 32: scenes, 64: scenes // 8}
    model = Denoiser(build_tokenizer(), channels).to(where)
    # Plain attention: on a CPU its gradient takes less time than that of torch's fused one.
    model.unet.set_attn_processor(AttnProcessor())
    state = folder / "denoiser.pt"
    run = Run(state, model, steps=steps, rate=PEAK_RATE, warmup=WARMUP, decay=0.998, seed=seed, muon=True)
    noising = DDPMScheduler(**NOISE)
    sides = sorted({side_at(step) for step in range(run.start, steps)})
    latents = {side: scene_latents(folder, vae, counts[side], side) for side in sides}
    for step, rng in run.rounds():
        side = side_at(step)
        chosen = rng.integers(counts[side], size=BATCHES[side])
        clean = latents[side][torch.from_numpy(chosen)].to(where).float()
        noise = torch.randn(clean.shape, generator=torch_rng(rng, where), device=where)
        times = spread_times(rng, len(chosen)).to(where)
        with fast_math(where):
            predicted = model(noising.add_noise(clean, noise, times), times, draw_captions(rng, chosen))
        wanted = noising.get_velocity(clean, noise, times)
        run.descend(functional.mse_loss(predicted.float(), wanted), side=side)
    return run.loss


def main(
    folder: Annotated[Path, typer.Option(help="where states, scenes and latents are kept")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="the step to train up to")] = 4600,
    scenes: Annotated[int, typer.Option(help="how many scenes to draw and encode, in steps of 500")] = 6000,
) -> None:
    """Train the denoiser, or go on from its last state."""
    limit_threads()
    train(folder, steps, scenes)


if __name__ == "__main__":
    typer.run(main)
