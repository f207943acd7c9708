"""Stage 6, motion: `python -m training.motion` trains a MotionAdapter on moving scenes.

The adapter adds attention between frames to the layers of the finished denoiser, whose weights do not change. It is
used by AnimateDiffPipeline.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL, DDPMScheduler, MotionAdapter, UNetMotionModel
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from training.checkpoint import DEFAULT_FOLDER
from training.clips import FRAMES, clip_latents
from training.denoiser import CHANNELS, EMPTY_CAPTION_SHARE, NOISE, averaged_denoiser, stratified_timesteps
from training.runtime import limit_threads, mixed_precision, select_device, torch_rng
from training.scenes.clip_captions import USUAL_MOTION
from training.scenes.details import detailed_caption
from training.scenes.labels import Scene, sample_scene
from training.trainer import Trainer

MAX_FRAMES = 32
FRAMES_PER_STEP = 8  # random frames of a clip per training step; a third of the frames allows three times as many clips
SMALL_STEPS = 1000  # number of steps with 16x16 latents, before training continues with 32x32, the default size
BATCHES = {16: 4, 32: 1}  # clips per step for each latent height and width
PEAK_LEARNING_RATE, WARMUP = 1e-3, 100
TRAINED_NAME = "motion_modules"  # contained in the name of every parameter trained in this stage


def new_adapter(channels: tuple[int, ...] = CHANNELS) -> MotionAdapter:
    """Return an untrained adapter whose output layers are zero, so that it does not change the denoiser's output."""
    adapter = MotionAdapter(
        block_out_channels=channels,
        motion_layers_per_block=1,
        motion_num_attention_heads=4,
        motion_norm_num_groups=16,
        motion_max_seq_length=MAX_FRAMES,
        use_motion_mid_block=False,
    )
    for name, module in adapter.named_modules():
        if name.endswith("proj_out") and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return adapter


def usual_motion_scene(index: int) -> Scene:
    """Return the scene with seed `index` and the usual motion of its place.

    The text encoder was trained on still images, so the adapter cannot learn a motion from the words of the prompt.
    When places had several motions, videos hardly moved after 1,475 training steps. Stage 7 trains all motions.
    """
    scene = sample_scene(index)
    return scene.moving(USUAL_MOTION[scene.place])


def latent_size_at(step: int) -> int:
    """Return the height and width of the latents used in training step `step`."""
    return 16 if step < SMALL_STEPS else 32


@contextmanager
def frame_positions(unet: UNetMotionModel, positions: NDArray[np.int64]) -> Iterator[None]:
    """Use `positions`, int64 [F], instead of 0 to F - 1 in the positional embeddings within this context."""
    embeddings = [module for module in unet.modules() if isinstance(module, SinusoidalPositionalEmbedding)]
    originals = [embedding.pe for embedding in embeddings]
    for embedding in embeddings:
        embedding.pe = embedding.pe[:, positions]
    yield
    for embedding, original in zip(embeddings, originals, strict=True):
        embedding.pe = original


def train(folder: Path, steps: int, clips: int, channels: tuple[int, ...] = CHANNELS, seed: int = 4) -> float:
    """Train up to step `steps`, resuming from FOLDER/motion.pt; write FOLDER/motion and return the last loss."""
    device = select_device()
    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(device).eval()
    denoiser = averaged_denoiser(folder, channels)
    adapter = new_adapter(channels)
    unet = UNetMotionModel.from_unet2d(denoiser.unet, adapter).to(device)
    unet.requires_grad_(False)
    trained = nn.ParameterList(weight for name, weight in unet.named_parameters() if TRAINED_NAME in name)
    trained.requires_grad_(True)
    trainer = Trainer(
        folder / "motion.pt",
        trained,
        steps=steps,
        learning_rate=PEAK_LEARNING_RATE,
        warmup=WARMUP,
        decay=0.995,
        seed=seed,
        muon=True,
    )
    scheduler = DDPMScheduler(**NOISE)
    for step, rng in trainer.remaining_steps():
        side = latent_size_at(step)
        chosen = rng.integers(clips, size=BATCHES[side])
        positions = np.sort(rng.choice(FRAMES, FRAMES_PER_STEP, replace=False))
        clips_latents = torch.stack(
            [clip_latents(folder, vae, usual_motion_scene(int(index)), side) for index in chosen]
        )
        clean = clips_latents[:, positions].to(device).float()
        noise = torch.randn(clean.shape, generator=torch_rng(rng, device), device=device)
        timesteps = stratified_timesteps(rng, len(chosen)).to(device)  # one per clip, shared by its frames
        captions = [
            "" if rng.random() < EMPTY_CAPTION_SHARE else detailed_caption(usual_motion_scene(int(i)), rng)
            for i in chosen
        ]
        with mixed_precision(device), frame_positions(unet, positions):
            with torch.no_grad():
                embeddings = denoiser.encode_captions(captions).repeat_interleave(FRAMES_PER_STEP, dim=0)
            noisy = scheduler.add_noise(clean, noise, timesteps)
            # UNetMotionModel expects [B, 4, F, h, w].
            predicted = unet(noisy.transpose(1, 2), timesteps, embeddings).sample.transpose(1, 2)
        target = scheduler.get_velocity(clean, noise, timesteps)
        trainer.update(functional.mse_loss(predicted.float(), target), side=side)
    trainer.average.copy_to(trained.parameters())
    adapter.load_state_dict({name: weight for name, weight in unet.state_dict().items() if TRAINED_NAME in name})
    adapter.save_pretrained(folder / "motion")
    return trainer.loss


def main(
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and finished models.")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="Total number of training steps.")] = 3200,
    clips: Annotated[int, typer.Option(help="Number of moving scenes; each is encoded when it is first used.")] = 400,
) -> None:
    """Train the motion adapter, or resume its training."""
    limit_threads()
    train(folder, steps, clips)


if __name__ == "__main__":
    typer.run(main)
