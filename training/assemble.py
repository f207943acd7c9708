"""Stage 4, the pipeline: `python -m training.assemble` writes a StableDiffusionPipeline as fp16 safetensors."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL, DDIMScheduler, MotionAdapter, StableDiffusionPipeline
from rich import print as rich_print

from training.checkpoint import DEFAULT_FOLDER
from training.denoiser import CHANNELS, NOISE, Denoiser
from training.runtime import select_device
from training.tokenizer import build_tokenizer, save_tokenizer
from training.trainer import load_averaged_weights


def averaged_denoiser(folder: Path, channels: tuple[int, ...] = CHANNELS) -> Denoiser:
    """Return the trained denoiser with the moving average of its weights."""
    model = Denoiser(build_tokenizer(), channels).to(select_device()).eval()
    load_averaged_weights(folder / "denoiser.pt", model)
    return model


def assemble(folder: Path, channels: tuple[int, ...] = CHANNELS) -> StableDiffusionPipeline:
    """Return a float32 pipeline of the finished VAE and the averaged denoiser."""
    model = averaged_denoiser(folder, channels)
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae").to(select_device()).eval(),
        text_encoder=model.text,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=DDIMScheduler(**NOISE, timestep_spacing="trailing", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def main(
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and finished models.")] = DEFAULT_FOLDER,
) -> None:
    """Write the pipeline, and the motion adapter if it has been trained, to FOLDER/pipeline; print the size."""
    out = folder / "pipeline"
    pipeline = assemble(folder).to(torch.float16)
    pipeline.save_pretrained(out, safe_serialization=True)
    save_tokenizer(pipeline.tokenizer, out / "tokenizer")
    if (folder / "motion").exists():
        adapter = MotionAdapter.from_pretrained(folder / "motion")
        adapter.to(torch.float16).save_pretrained(out / "motion_adapter")
    # diffusers records the path from which a model was loaded. It has no meaning on other machines.
    for config in out.rglob("config.json"):
        written = json.loads(config.read_text(encoding="utf-8"))
        if written.pop("_name_or_path", None) is not None:
            config.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    rich_print(f"{out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
