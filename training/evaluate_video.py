"""Evaluation of generated videos: `python -m training.evaluate_video` measures their motion.

Each video is compared with its shuffled frames, and the motion classifier predicts which motion it has.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AnimateDiffPipeline, MotionAdapter
from PIL import Image as PILImage
from rich import print as rich_print
from rich.progress import track

from training.checkpoint import DEFAULT_FOLDER
from training.evaluate import GUIDANCE, STEPS, load_pipeline
from training.motion_classifier import classify, load_motion_classifier
from training.runtime import limit_threads, select_device
from training.scenes.labels import Motion
from training.scenes.render import Image

PROMPTS: dict[str, Motion] = {
    "a wide-angle photograph of a snowy mountain at dusk, the camera panning": "pan",
    "the sea at sunset, the sun going down": "sunset",
    "a field by day with clouds in the sky, clouds drifting": "drift",
    "a city at night, zooming in": "zoom",
}


def load_video_pipeline(path: Path) -> AnimateDiffPipeline:
    """Return the assembled pipeline with its motion adapter in float32, without a progress bar."""
    adapter = MotionAdapter.from_pretrained(path / "motion_adapter", torch_dtype=torch.float32)
    image_pipeline = load_pipeline(path)
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    components = {name: getattr(image_pipeline, name) for name in names}
    pipeline = AnimateDiffPipeline(**components, motion_adapter=adapter).to(select_device())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def mean_frame_difference(frames: Image) -> float:
    """Return the mean absolute difference of consecutive frames uint8 [F, H, W, 3], in grey levels."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean())


def coherence(frames: Image, shuffles: int = 20) -> dict[str, float]:
    """Return the mean frame difference of frames in order and in random order, and the ratio of the two.

    The ratio is near 1 for unrelated frames and well below 1 for a continuous motion.
    """
    rng = np.random.default_rng(0)
    shuffled = float(np.mean([mean_frame_difference(frames[rng.permutation(len(frames))]) for _ in range(shuffles)]))
    ordered = mean_frame_difference(frames)
    return {"ordered": ordered, "shuffled": shuffled, "ratio": ordered / max(shuffled, 1e-6)}


def main(
    folder: Annotated[Path, typer.Option(help="Folder of the pipeline.")] = DEFAULT_FOLDER,
    num_frames: Annotated[int, typer.Option(help="Number of frames per video.")] = 24,
    size: Annotated[int, typer.Option(help="Height and width of a frame in pixels.")] = 256,
) -> None:
    """Write coherence and motion of each video to FOLDER/video.json and its frames as one row to FOLDER/video-N.png."""
    limit_threads()
    pipeline = load_video_pipeline(folder / "pipeline")
    classifier = load_motion_classifier(folder)
    result = {}
    for index, (prompt, motion) in enumerate(track(PROMPTS.items(), "generating videos")):
        output = pipeline(
            prompt,
            num_frames=num_frames,
            height=size,
            width=size,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=torch.Generator().manual_seed(index),
        )
        video = np.stack([np.asarray(frame) for frame in output.frames[0]])
        PILImage.fromarray(np.concatenate(list(video), axis=1)).save(folder / f"video-{index}.png")
        result[prompt] = coherence(video) | {"requested": motion, "classified": classify(classifier, video[None])[0]}
    (folder / "video.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    rich_print(result)


if __name__ == "__main__":
    typer.run(main)
