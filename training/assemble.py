"""Stage 4, the pipeline: `python -m training.assemble` writes a StableDiffusionPipeline, fp16 safetensors."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL, DDIMScheduler, MotionAdapter, StableDiffusionPipeline
from rich import print as show

from training.denoiser import CHANNELS, NOISE, Denoiser
from training.machine import device
from training.run import load_average
from training.state import DEFAULT_FOLDER
from training.tokenizer import build_tokenizer, save_tokenizer


def averaged_denoiser(folder: Path, channels: tuple[int, ...] = CHANNELS) -> Denoiser:
    """Return the trained denoiser with its averaged weights."""
    model = Denoiser(build_tokenizer(), channels).to(device()).eval()
    load_average(folder / "denoiser.pt", model)
    return model


def assemble(folder: Path, channels: tuple[int, ...] = CHANNELS) -> StableDiffusionPipeline:
    """Return the pipeline of the finished VAE and the averaged denoiser, float32."""
    model = averaged_denoiser(folder, channels)
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae").to(device()).eval(),
        text_encoder=model.text,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=DDIMScheduler(**NOISE, timestep_spacing="trailing", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def main(
    folder: Annotated[Path, typer.Option(help="where states and finished parts are kept")] = DEFAULT_FOLDER,
) -> None:
    """Write FOLDER/pipeline, with the motion adapter beside its parts if there is one, and say its size."""
    out = folder / "pipeline"
    pipeline = assemble(folder).to(torch.float16)
    pipeline.save_pretrained(out, safe_serialization=True)
    save_tokenizer(pipeline.tokenizer, out / "tokenizer")
    if (folder / "motion").exists():
        adapter = MotionAdapter.from_pretrained(folder / "motion")
        adapter.to(torch.float16).save_pretrained(out / "motion_adapter")
    for config in out.rglob("config.json"):  # says where a part was loaded from, which is this machine's business
        written = json.loads(config.read_text(encoding="utf-8"))
        if written.pop("_name_or_path", None) is not None:
            config.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    show(f"{out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
