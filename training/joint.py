"""Stage 7, images and videos together: `python -m training.joint` trains the denoiser and the motion adapter jointly.

The motion adapter does not receive the text. It can follow the words of a prompt only if the UNet passes them on in its
features, which a UNet trained on still images does not do. Therefore this stage trains the text encoder, the
cross-attention of the UNet and the adapter together on still images and clips. It starts from the published weights,
and the rest of the UNet keeps them, so that images stay as they are. At first, this stage uses only still images, most
of them with words for a motion, until the UNet passes these words on (module `motion_words`).
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import DDPMScheduler, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.models.attention_processor import AttnProcessor
from torch.nn import functional
from transformers import CLIPTokenizer

from training.checkpoint import DEFAULT_FOLDER
from training.clips import FRAMES
from training.denoiser import CHANNELS, NOISE, Denoiser, stratified_timesteps
from training.joint_batches import Batch, Batches
from training.motion import FRAMES_PER_STEP, TRAINED_NAME, frame_positions, new_adapter
from training.motion_words import WEIGHT, MotionWords
from training.published import load_published_adapter, load_published_denoiser
from training.runtime import limit_threads, mixed_precision, select_device, torch_rng
from training.tokenizer import build_tokenizer, save_tokenizer
from training.trainer import Trainer, load_averaged_weights

PEAK_LEARNING_RATE, WARMUP = 1e-3, 100
WORDS_STEPS = 600  # number of steps with still images only, which teach the words for motions
MOTION_CAPTION_SHARE = 0.4  # share of still images whose captions have words for a motion; before WORDS_STEPS, 0.9
CROSS_ATTENTION = ".attn2."  # contained in the name of every parameter of the UNet that is trained in this stage
MOVEMENT_WEIGHT = 3.0  # additional weight of that part of a clip's error which differs between its frames
LARGE_INTERVAL = 16  # number of steps from one step with 64x64 latents to the next


class VideoDenoiser(Denoiser):
    """Denoiser of images that also denoises clips; both uses share the weights of the UNet."""

    def __init__(self, tokenizer: CLIPTokenizer, channels: tuple[int, ...] = CHANNELS) -> None:
        """Create untrained networks for the vocabulary of `tokenizer`."""
        super().__init__(tokenizer, channels)
        self.video_unet = UNetMotionModel.from_unet2d(self.unet, new_adapter(channels))
        share_weights(self.unet, self.video_unet)
        self.motion_words = MotionWords(self.unet)
        self.motion_words.watch(self.unet)
        self.motion_words.watch(self.video_unet)

    def denoise_clips(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        captions: list[str],
        positions: np.ndarray[tuple[int], np.dtype[np.int64]],
    ) -> torch.Tensor:
        """Return the velocity of noisy clips [B, F, 4, h, w] at timesteps int64 [B].

        `positions`, int64 [F], are the positions of the frames in the video.
        """
        embeddings = self.encode_captions(captions).repeat_interleave(noisy.shape[1], dim=0)
        with frame_positions(self.video_unet, positions):
            # UNetMotionModel expects [B, 4, F, h, w].
            predicted: torch.Tensor = self.video_unet(noisy.transpose(1, 2), timesteps, embeddings).sample
        return predicted.transpose(1, 2)

    def adapter(self) -> MotionAdapter:
        """Return a copy of the motion adapter."""
        adapter = new_adapter(tuple(self.unet.config.block_out_channels))
        weights = {name: weight for name, weight in self.video_unet.state_dict().items() if TRAINED_NAME in name}
        adapter.load_state_dict(weights)
        return adapter


def share_weights(unet: UNet2DConditionModel, video_unet: UNetMotionModel) -> None:
    """Replace the weights of `video_unet` that `unet` also has by those of `unet`, to train both together."""
    shared = dict(unet.named_parameters())
    for name, _ in list(video_unet.named_parameters()):
        if name in shared:
            module, _, weight = name.rpartition(".")
            video_unet.get_submodule(module).register_parameter(weight, shared[name])


def freeze_all_but_cross_attention(unet: UNet2DConditionModel) -> None:
    """Let only those weights of `unet` be trained that read the text."""
    for name, weight in unet.named_parameters():
        weight.requires_grad_(CROSS_ATTENTION in name)


def published_model(tokenizer: CLIPTokenizer) -> VideoDenoiser:
    """Return a model with the published weights for the vocabulary of `tokenizer`."""
    model = VideoDenoiser(tokenizer)
    load_published_denoiser(model)
    adapter = new_adapter()
    load_published_adapter(adapter)
    model.video_unet.load_state_dict(adapter.state_dict(), strict=False)
    return model


def stored_tokenizer(folder: Path) -> CLIPTokenizer:
    """Return the tokenizer in FOLDER/tokenizer, which is built and stored for the first step of training.

    The vocabulary belongs to the checkpoint, so the caption grammar can be changed while a model is trained.
    """
    if not (folder / "tokenizer").exists():
        save_tokenizer(build_tokenizer(), folder / "tokenizer")
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return tokenizer


def averaged_video_denoiser(folder: Path, channels: tuple[int, ...] = CHANNELS) -> VideoDenoiser:
    """Return the model of this stage with the moving average of its weights, also during training."""
    model = VideoDenoiser(stored_tokenizer(folder), channels).to(select_device()).eval()
    load_averaged_weights(folder / "joint.pt", model)
    return model


def latent_size_at(rng: np.random.Generator, step: int, small_until: int) -> int:
    """Return the height and width of the latents of a step: mostly 16 before step `small_until`, then mostly 32."""
    if step >= small_until and step % LARGE_INTERVAL == 0:
        return 64
    return 16 if rng.random() < (0.8 if step < small_until else 0.2) else 32


def clip_timesteps(rng: np.random.Generator, count: int) -> torch.Tensor:
    """Return one random timestep per clip, int64 [count], more of them at high noise levels.

    There the words decide on the motion; at low noise levels the motion can be seen in the noisy frames.
    """
    return (1000 * (stratified_timesteps(rng, count) / 1000).sqrt()).long()


def frames_of_step(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the positions of the frames of a step, int64 [FRAMES_PER_STEP]: random ones or consecutive ones.

    Random positions are symmetric, so that a clip played backwards has the same frames in reverse order.
    """
    if rng.random() < 0.5:
        early = rng.choice(FRAMES // 2, FRAMES_PER_STEP // 2, replace=False)
        return np.sort(np.concatenate([early, FRAMES - 1 - early]))
    return rng.integers(FRAMES - FRAMES_PER_STEP + 1) + np.arange(FRAMES_PER_STEP)


def image_loss(
    model: VideoDenoiser, scheduler: DDPMScheduler, rng: np.random.Generator, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses of the latents and of the motion words for still images with random noise."""
    device = model.unet.device
    clean = batch.latents.to(device).float()
    noise = torch.randn(clean.shape, generator=torch_rng(rng, device), device=device)
    timesteps = stratified_timesteps(rng, len(clean)).to(device)
    with mixed_precision(device):
        predicted = model(scheduler.add_noise(clean, noise, timesteps), timesteps, batch.captions)
    loss = functional.mse_loss(predicted.float(), scheduler.get_velocity(clean, noise, timesteps))
    return loss, model.motion_words.loss(batch.motions)


def clip_loss(
    model: VideoDenoiser, scheduler: DDPMScheduler, rng: np.random.Generator, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses of the latents and of the motion words for some frames of clips with random noise.

    Most of the error is the same in all frames, because the noise hides what the scene looks like. What differs between
    the frames, their movement and their flicker, has a higher weight. The best prediction is the same with any weights.
    """
    device = model.unet.device
    positions = frames_of_step(rng)
    clean = batch.latents[:, torch.from_numpy(positions)].to(device).float()
    noise = torch.randn(clean.shape, generator=torch_rng(rng, device), device=device)
    timesteps = clip_timesteps(rng, len(clean)).to(device)
    # Where the second clip of a pair is the first one played backwards, only the words can tell which one is which.
    noise[1::2], timesteps[1::2] = noise[::2].flip(1), timesteps[::2]
    noisy = scheduler.add_noise(clean, noise, timesteps)
    with mixed_precision(device):
        predicted = model.denoise_clips(noisy, timesteps, batch.captions, positions)
    error = predicted.float() - scheduler.get_velocity(clean, noise, timesteps)
    loss = error.square().mean() + MOVEMENT_WEIGHT * (error - error.mean(1, keepdim=True)).square().mean()
    return loss, model.motion_words.loss(batch.motions)


def train(
    folder: Path,
    steps: int,
    scenes: int,
    clips: int,
    small_until: int,
    *,
    model: VideoDenoiser | None = None,
    seed: int = 7,
) -> float:
    """Train up to step `steps`, resuming from FOLDER/joint.pt; return the last loss.

    Training starts from `model`, by default from the published weights. Each step uses images and clips.
    """
    device = select_device()
    torch.manual_seed(seed)
    model = (model or published_model(stored_tokenizer(folder))).to(device)
    freeze_all_but_cross_attention(model.unet)
    # On a CPU the backward pass of unfused attention is faster than that of torch's fused attention.
    model.unet.set_attn_processor(AttnProcessor())
    model.video_unet.set_attn_processor(AttnProcessor())
    batches = Batches(folder, scenes, clips)
    trainer = Trainer(
        folder / "joint.pt",
        model,
        steps=steps,
        learning_rate=PEAK_LEARNING_RATE,
        warmup=WARMUP,
        decay=0.998,
        seed=seed,
        muon=True,
    )
    scheduler = DDPMScheduler(**NOISE)
    for step, rng in trainer.remaining_steps():
        if step < WORDS_STEPS:
            loss, words = image_loss(model, scheduler, rng, batches.images(rng, 16, motion_share=0.9))
            trainer.update(loss + WEIGHT * words, side=16, images=loss.item(), words=words.item())
            continue
        side = latent_size_at(rng, step, small_until)
        images, words = image_loss(model, scheduler, rng, batches.images(rng, side, MOTION_CAPTION_SHARE))
        moving, clip_words = clip_loss(model, scheduler, rng, batches.clips(rng, min(side, 32)))
        loss = images + moving + WEIGHT * (words + clip_words)
        trainer.update(loss, side=side, images=images.item(), clips=moving.item(), words=clip_words.item())
    return trainer.loss


def main(
    folder: Annotated[Path, typer.Option(help="Folder of the VAE, checkpoints and latents.")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="Total number of training steps.")] = 8000,
    scenes: Annotated[int, typer.Option(help="Number of still scenes to encode, a multiple of 500.")] = 6000,
    clips: Annotated[int, typer.Option(help="Number of moving scenes; each is encoded when it is first used.")] = 1500,
    small_until: Annotated[int, typer.Option(help="Step before which most latents are 16x16.")] = 3000,
) -> None:
    """Train the denoiser and the motion adapter together, or resume their training."""
    limit_threads()
    train(folder, steps, scenes, clips, small_until)


if __name__ == "__main__":
    typer.run(main)
