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
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTokenizer

from training.checkpoint import DEFAULT_FOLDER
from training.denoiser import CHANNELS, NOISE
from training.joint_batches import Batches
from training.joint_losses import clip_loss, image_loss
from training.motion import new_adapter
from training.motion_words import WEIGHT
from training.published import load_published_adapter, load_published_denoiser
from training.runtime import limit_threads, select_device
from training.tokenizer import build_tokenizer, save_tokenizer
from training.trainer import Trainer, load_averaged_weights
from training.video_denoiser import VideoDenoiser

PEAK_LEARNING_RATE, WARMUP = 1e-3, 100
WORDS_STEPS = 600  # number of steps with still images only, which teach the words for motions
MOTION_CAPTION_SHARE = 0.4  # share of still images whose captions have words for a motion; before WORDS_STEPS, 0.9
CROSS_ATTENTION = ".attn2."  # contained in the name of every parameter of the UNet that is trained in this stage
SMALL_SHARE = 0.8  # share of steps with 16x16 latents
LARGE_INTERVAL = 16  # number of steps from one step with 64x64 latents to the next


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
    """Return the height and width of the latents of a step: mostly 16, so that more clips fit into a step."""
    if step >= small_until and step % LARGE_INTERVAL == 0:
        return 64
    return 16 if rng.random() < SMALL_SHARE else 32


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
        moving, clip_words = clip_loss(model, scheduler, rng, batches.clips(rng, min(side, 32)))
        loss = moving + WEIGHT * clip_words
        if step % 2 or side == 64:
            images, words = image_loss(model, scheduler, rng, batches.images(rng, side, MOTION_CAPTION_SHARE))
            loss = loss + images + WEIGHT * words
        trainer.update(loss, side=side, clips=moving.item(), words=clip_words.item())
    return trainer.loss


def main(
    folder: Annotated[Path, typer.Option(help="Folder of the VAE, checkpoints and latents.")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="Total number of training steps.")] = 8000,
    scenes: Annotated[int, typer.Option(help="Number of still scenes to encode, a multiple of 500.")] = 6000,
    clips: Annotated[int, typer.Option(help="Number of moving scenes; each is encoded when it is first used.")] = 1500,
    small_until: Annotated[int, typer.Option(help="Step before which no latents are 64x64.")] = 3000,
) -> None:
    """Train the denoiser and the motion adapter together, or resume their training."""
    limit_threads()
    train(folder, steps, scenes, clips, small_until)


if __name__ == "__main__":
    typer.run(main)
