"""Stage 7, words for motions: `python -m training.joint` trains new words of captions and the motion adapter together.

The motion adapter does not receive the text. It can follow the words of a prompt only if the UNet passes them on in its
features, which a UNet trained on still images does not do. Therefore this stage trains the adapter together with the
new words and what the cross-attention of the UNet reads for them (module `new_words`). It starts from the published
weights, and images of captions without new words stay as they are. At first, this stage uses only still images, most
of them with words for a motion, until the UNet passes these words on (module `motion_words`).
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import DDPMScheduler
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTokenizer

from training.checkpoint import DEFAULT_FOLDER
from training.denoiser import CHANNELS, NOISE
from training.joint_batches import Batches
from training.joint_losses import clip_loss, image_loss
from training.joint_phases import phase_at
from training.motion import new_adapter
from training.motion_words import WEIGHT
from training.new_words import train_only_new_words
from training.published import load_published_adapter, load_published_denoiser
from training.runtime import limit_threads, select_device
from training.tokenizer import build_tokenizer, save_tokenizer
from training.trainer import Trainer, load_averaged_weights
from training.video_denoiser import VideoDenoiser

PEAK_LEARNING_RATE, WARMUP = 1e-3, 100
EMBEDDING_RATE = 5.0  # multiple of the learning rate for the embeddings of new words
WORDS_STEPS = 600  # number of steps with still images only, which teach the words for motions
MOTION_CAPTION_SHARE = 0.4  # share of still images whose captions have words for a motion; before WORDS_STEPS, 0.9


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


def train(
    folder: Path,
    steps: int,
    scenes: int,
    clips: int,
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
    train_only_new_words(model)
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
        weight_decay=False,
        embedding_rate=EMBEDDING_RATE,
    )
    scheduler = DDPMScheduler(**NOISE)
    for step, rng in trainer.remaining_steps():
        if step < WORDS_STEPS:
            loss, words = image_loss(model, scheduler, rng, batches.images(rng, 16, motion_share=0.9), 0)
            trainer.update(loss + WEIGHT * words, side=16, images=loss.item(), words=words.item())
            continue
        phase = phase_at(step)
        side = 16 if rng.random() < phase.small_share else 32
        moving, clip_words = clip_loss(model, scheduler, rng, batches.clips(rng, side, phase), phase)
        loss = moving + WEIGHT * clip_words
        if step % 2:
            images = batches.images(rng, side, MOTION_CAPTION_SHARE)
            still, words = image_loss(model, scheduler, rng, images, phase.same_image_weight)
            loss = loss + still + WEIGHT * words
        trainer.update(loss, side=side, clips=moving.item(), words=clip_words.item())
    return trainer.loss


def main(
    folder: Annotated[Path, typer.Option(help="Folder of the VAE, checkpoints and latents.")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="Total number of training steps.")] = 11850,
    scenes: Annotated[int, typer.Option(help="Number of still scenes to encode, a multiple of 500.")] = 6000,
    clips: Annotated[int, typer.Option(help="Number of moving scenes; each is encoded when it is first used.")] = 500,
) -> None:
    """Train new words and the motion adapter together, or resume their training."""
    limit_threads()
    train(folder, steps, scenes, clips)


if __name__ == "__main__":
    typer.run(main)
