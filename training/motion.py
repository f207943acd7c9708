"""Stage 6, motion: `python -m training.motion` trains a MotionAdapter on moving scenes.

The adapter sits between the layers of the finished denoiser, which is held fixed, and lets frames see each
other; AnimateDiffPipeline runs it.
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
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from training.assemble import averaged_denoiser
from training.denoiser import CHANNELS, NOISE, UNCONDITIONED, spread_times
from training.finish_vae import encode
from training.latents import encoder_mark
from training.machine import device, fast_math, limit_threads, torch_rng
from training.pictures import renderer_mark
from training.run import Run
from training.scenes.captions import caption
from training.scenes.labels import Motion, Place, Scene, sample_scene
from training.scenes.render import render_motion
from training.state import DEFAULT_FOLDER

FRAMES, MAX_FRAMES = 24, 32
SEEN = 8  # frames of a clip that one step sees, drawn anew each time: a third of the work, and more clips for it
SMALL_STEPS = 1000  # on 16 by 16 before the native 32 by 32
BATCHES = {16: 4, 32: 1}  # clips a step, by the side of their latents
PEAK_RATE, WARMUP = 1e-3, 100
MODULES = "motion_modules"  # part of the name of every weight that is trained here


def new_adapter(channels: tuple[int, ...] = CHANNELS) -> MotionAdapter:
    """Return an untrained adapter that does nothing yet: frames begin by not seeing each other."""
    adapter = MotionAdapter(
        block_out_channels=channels,
        motion_layers_per_block=1,
        motion_num_attention_heads=4,
        motion_norm_num_groups=16,
        motion_max_seq_length=MAX_FRAMES,
        use_motion_mid_block=False,
    )
    for name, part in adapter.named_modules():
        if name.endswith("proj_out") and isinstance(part, nn.Linear):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
    return adapter


MOTION_OF: dict[Place, Motion] = {
    "mountain": "pan",
    "sea": "sunset",
    "desert": "pan",
    "forest": "pan",
    "city": "zoom",
    "field": "pan",
}
"""How each place moves. The denoiser's words are those of still pictures, so what moves must follow from them: where a
place moved in several ways, an adapter that cannot tell which gave all but still videos after 1,475 steps."""


def moving_scene(index: int) -> Scene:
    """Return a scene in the motion of its place."""
    scene = sample_scene(index)
    return scene.moving(MOTION_OF[scene.place])


def clip_latents(folder: Path, vae: AutoencoderKL, index: int, side: int) -> torch.Tensor:
    """Return the scaled latents of one moving scene, float16 [frames, 4, side, side], encoded once."""
    scene = moving_scene(index)
    path = folder / f"clips-{renderer_mark()}-{encoder_mark(vae)}" / f"{side}-{index}-{scene.motion}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = render_motion(scene, FRAMES, 8 * side, 8 * side)
        save_file({"latents": encode(vae, frames).half()}, path)
    latents: torch.Tensor = load_file(path)["latents"]
    return latents


def side_at(step: int) -> int:
    """Return the side of the latents that a step trains on."""
    return 16 if step < SMALL_STEPS else 32


@contextmanager
def positions(unet: UNetMotionModel, moments: NDArray[np.int64]) -> Iterator[None]:
    """Tell the adapter that the frames it gets stand at `moments`, int64 [F], of a longer clip, not at 0 to F - 1."""
    tables = [module for module in unet.modules() if isinstance(module, SinusoidalPositionalEmbedding)]
    whole = [table.pe for table in tables]
    for table in tables:
        table.pe = table.pe[:, moments]
    yield
    for table, pe in zip(tables, whole, strict=True):
        table.pe = pe


def train(folder: Path, steps: int, clips: int, channels: tuple[int, ...] = CHANNELS, seed: int = 4) -> float:
    """Train up to step `steps`, from the last state if any; write FOLDER/motion and return the last loss."""
    where = device()
    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(folder / "vae").to(where).eval()
    denoiser = averaged_denoiser(folder, channels)
    adapter = new_adapter(channels)
    unet = UNetMotionModel.from_unet2d(denoiser.unet, adapter).to(where)
    unet.requires_grad_(False)
    moved = nn.ParameterList(weight for name, weight in unet.named_parameters() if MODULES in name)
    moved.requires_grad_(True)
    run = Run(
        folder / "motion.pt", moved, steps=steps, rate=PEAK_RATE, warmup=WARMUP, decay=0.995, seed=seed, muon=True
    )
    noising = DDPMScheduler(**NOISE)
    for step, rng in run.rounds():
        side = side_at(step)
        chosen = rng.integers(clips, size=BATCHES[side])
        moments = np.sort(rng.choice(FRAMES, SEEN, replace=False))
        whole = torch.stack([clip_latents(folder, vae, int(index), side) for index in chosen])
        clean = whole[:, moments].to(where).float()
        noise = torch.randn(clean.shape, generator=torch_rng(rng, where), device=where)
        times = spread_times(rng, len(chosen)).to(where)  # a clip's frames share one
        captions = ["" if rng.random() < UNCONDITIONED else caption(moving_scene(int(i)), rng) for i in chosen]
        with fast_math(where), positions(unet, moments):
            with torch.no_grad():
                words = denoiser.words(captions).repeat_interleave(SEEN, dim=0)
            noisy = noising.add_noise(clean, noise, times)
            # This model wants [B, 4, F, h, w].
            predicted = unet(noisy.transpose(1, 2), times, words).sample.transpose(1, 2)
        wanted = noising.get_velocity(clean, noise, times)
        run.descend(functional.mse_loss(predicted.float(), wanted), side=side)
    run.average.copy_to(moved.parameters())
    adapter.load_state_dict({name: weight for name, weight in unet.state_dict().items() if MODULES in name})
    adapter.save_pretrained(folder / "motion")
    return run.loss


def main(
    folder: Annotated[Path, typer.Option(help="where states and the other stages' results are kept")] = DEFAULT_FOLDER,
    steps: Annotated[int, typer.Option(help="the step to train up to")] = 3200,
    clips: Annotated[int, typer.Option(help="how many moving scenes to draw; each is encoded when first met")] = 400,
) -> None:
    """Train the motion adapter, or go on from its last state."""
    limit_threads()
    train(folder, steps, clips)


if __name__ == "__main__":
    typer.run(main)
