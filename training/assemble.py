"""Stage 4, the pipeline: `python -m training.assemble` writes a StableDiffusionPipeline as fp16 safetensors."""

import json
import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL, DDIMScheduler, MotionAdapter, StableDiffusionPipeline
from rich import print as rich_print

from codec_scenes import MODEL_FOLDER
from training.checkpoint import DEFAULT_FOLDER
from training.denoiser import CHANNELS, NOISE, Denoiser, averaged_denoiser
from training.joint import averaged_video_denoiser
from training.latents import encoder_fingerprint
from training.runtime import select_device
from training.tokenizer import save_tokenizer
from training.video_denoiser import VideoDenoiser

LOADING_KEYS = ("_name_or_path", "is_local", "local_files_only")
"""How diffusers and transformers loaded a component. They store it with the component, for which it has no meaning."""


def trained_denoiser(folder: Path, channels: tuple[int, ...] = CHANNELS) -> Denoiser:
    """Return the averaged denoiser of stage 7 if it has been trained, otherwise that of stage 3."""
    trained_jointly = (folder / "joint.pt").exists()
    return averaged_video_denoiser(folder, channels) if trained_jointly else averaged_denoiser(folder, channels)


def trained_adapter(folder: Path, denoiser: Denoiser) -> MotionAdapter | None:
    """Return the motion adapter of stage 7 or 6 that belongs to `denoiser`, or None if neither has been trained."""
    if isinstance(denoiser, VideoDenoiser):
        return denoiser.adapter()
    return MotionAdapter.from_pretrained(folder / "motion") if (folder / "motion").exists() else None


def assemble(folder: Path, model: Denoiser) -> StableDiffusionPipeline:
    """Return a float32 pipeline of the finished VAE and the denoiser `model`."""
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


def write_trained(folder: Path, out: Path) -> None:
    """Write the pipeline of all trained components to `out`, with the motion adapter if it has been trained."""
    model = trained_denoiser(folder)
    adapter = trained_adapter(folder, model)
    pipeline = assemble(folder, model).to(torch.float16)
    pipeline.save_pretrained(out, safe_serialization=True)
    save_tokenizer(pipeline.tokenizer, out / "tokenizer")
    if adapter is not None:
        adapter.to(torch.float16).save_pretrained(out / "motion_adapter")


def write_published_with_vae(folder: Path, out: Path, published: Path = MODEL_FOLDER) -> None:
    """Copy the published pipeline to `out` and replace its VAE with the finished VAE in FOLDER/vae.

    Raises:
        ValueError: the encoders differ, so the published denoiser was trained on other latents.

    """
    vae, replaced = (AutoencoderKL.from_pretrained(path / "vae") for path in (folder, published))
    expected, received = encoder_fingerprint(replaced), encoder_fingerprint(vae)
    if received != expected:
        raise ValueError(
            f"the encoder in {folder / 'vae'} must be that of the published VAE ({expected}), got {received}"
        )
    shutil.copytree(published, out, dirs_exist_ok=True)
    vae.to(torch.float16).save_pretrained(out / "vae")


def remove_loading_keys(pipeline: Path) -> None:
    """Remove LOADING_KEYS from the configurations of a stored pipeline."""
    for config in pipeline.rglob("*config.json"):
        written = json.loads(config.read_text(encoding="utf-8"))
        kept = {key: value for key, value in written.items() if key not in LOADING_KEYS}
        if kept != written:
            config.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def main(
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and finished models.")] = DEFAULT_FOLDER,
    *,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Copy all components from the published model, except the VAE in FOLDER/vae.",
        ),
    ] = False,
) -> None:
    """Write the pipeline, and the motion adapter if there is one, to FOLDER/pipeline; print the size."""
    out = folder / "pipeline"
    if published:
        write_published_with_vae(folder, out)
    else:
        write_trained(folder, out)
    remove_loading_keys(out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    rich_print(f"{out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
