"""Do frames belong together? `python -m training.evaluate_video` compares their order with shuffled ones."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AnimateDiffPipeline, MotionAdapter
from PIL import Image as Picture
from rich import print as show
from rich.progress import track

from training.evaluate import GUIDANCE, STEPS, load_pipeline
from training.machine import device, limit_threads
from training.scenes.render import Image
from training.state import DEFAULT_FOLDER

PROMPTS = (
    "a wide-angle photograph of a snowy mountain at dusk, the camera panning",
    "the sea at sunset, the sun going down",
    "a field by day with clouds in the sky, clouds drifting",
    "a city at night, zooming in",
)


def load_video_pipeline(where: Path) -> AnimateDiffPipeline:
    """Return the assembled pipeline with its motion adapter, float32, silent."""
    adapter = MotionAdapter.from_pretrained(where / "motion_adapter", torch_dtype=torch.float32)
    pictures = load_pipeline(where)
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    parts = {name: getattr(pictures, name) for name in names}
    pipeline = AnimateDiffPipeline(**parts, motion_adapter=adapter).to(device())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def mean_step(frames: Image) -> float:
    """Return by how much one frame differs from the next, the mean over pixels of frames [F, H, W, 3]."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean())


def coherence(frames: Image, shuffles: int = 20) -> dict[str, float]:
    """Return the mean step in order and shuffled; well below 1 their ratio says that the order matters."""
    rng = np.random.default_rng(0)
    shuffled = float(np.mean([mean_step(frames[rng.permutation(len(frames))]) for _ in range(shuffles)]))
    ordered = mean_step(frames)
    return {"ordered": ordered, "shuffled": shuffled, "ratio": ordered / max(shuffled, 1e-6)}


def main(
    folder: Annotated[Path, typer.Option(help="where the pipeline is kept")] = DEFAULT_FOLDER,
    frames: Annotated[int, typer.Option(help="frames in a video")] = 24,
    size: Annotated[int, typer.Option(help="side of a frame in pixels")] = 256,
) -> None:
    """Write each video's coherence to FOLDER/video.json and its frames in a row to FOLDER/video-N.png."""
    limit_threads()
    pipeline = load_video_pipeline(folder / "pipeline")
    result = {}
    for index, prompt in enumerate(track(PROMPTS, "generating videos")):
        made = pipeline(
            prompt,
            num_frames=frames,
            height=size,
            width=size,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(index),
        )
        video = np.stack([np.asarray(frame) for frame in made.frames[0]])
        Picture.fromarray(np.concatenate(list(video), axis=1)).save(folder / f"video-{index}.png")
        result[prompt] = coherence(video)
    (folder / "video.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(result)


if __name__ == "__main__":
    typer.run(main)
