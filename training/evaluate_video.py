"""Evaluation of generated videos: `python -m training.evaluate_video` measures their motion.

Each video of PROMPTS is compared with its shuffled frames. The motion classifier predicts the motion of these videos
and of videos of evaluation captions. The latter are stored, so that an interrupted evaluation can resume; delete
FOLDER/generated-videos to evaluate another model.
"""

import itertools
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
from training.evaluate import STEPS, load_pipeline
from training.images import HELD_OUT
from training.motion_classifier import accuracy, classify, load_motion_classifier
from training.runtime import limit_threads, select_device
from training.scenes.clip_captions import evaluation_clip_caption
from training.scenes.labels import MOTIONS, Motion, Scene, sample_moving_scene
from training.scenes.render import Image

PROMPTS: dict[str, Motion] = {
    "a wide-angle photograph of a snowy mountain at dusk, the camera panning": "pan",
    "the sea at sunset, the sun going down": "sunset",
    "a field by day with clouds in the sky, clouds drifting": "drift",
    "a city at night, zooming in": "zoom",
}

GUIDANCE = 2.5
"""Guidance scale of the videos.

With 4, the value for images, the motion is the same, but distant windows and trees are less regular.
"""


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


def generate(pipeline: AnimateDiffPipeline, prompt: str, seed: int, num_frames: int, size: int) -> Image:
    """Generate one video, uint8 [num_frames, size, size, 3]."""
    output = pipeline(
        prompt,
        num_frames=num_frames,
        height=size,
        width=size,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(seed),
    )
    return np.stack([np.asarray(frame) for frame in output.frames[0]])


def evaluation_scenes(count: int) -> list[Scene]:
    """Return moving scenes that are not used for training, with each motion equally often (as far as possible)."""
    seeds = itertools.count(HELD_OUT)
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = sample_moving_scene(next(seeds))
        if scene.motion == MOTIONS[len(scenes) % len(MOTIONS)]:
            scenes.append(scene)
    return scenes


def main(
    folder: Annotated[Path, typer.Option(help="Folder of the pipeline.")] = DEFAULT_FOLDER,
    num_frames: Annotated[int, typer.Option(help="Number of frames per video.")] = 24,
    size: Annotated[int, typer.Option(help="Height and width of a frame in pixels.")] = 256,
    captions: Annotated[int, typer.Option(help="Number of evaluation captions whose motion is classified.")] = 70,
) -> None:
    """Write the results to FOLDER/video.json and the frames of each video of PROMPTS as a row to FOLDER/video-N.png."""
    limit_threads()
    pipeline = load_video_pipeline(folder / "pipeline")
    classifier = load_motion_classifier(folder)
    prompts = {}
    for index, (prompt, motion) in enumerate(track(PROMPTS.items(), "generating videos")):
        video = generate(pipeline, prompt, index, num_frames, size)
        PILImage.fromarray(np.concatenate(list(video), axis=1)).save(folder / f"video-{index}.png")
        prompts[prompt] = coherence(video) | {"requested": motion, "classified": classify(classifier, video[None])[0]}
    scenes = evaluation_scenes(captions)
    stored = folder / "generated-videos"
    stored.mkdir(exist_ok=True)
    predicted = []
    for scene in track(scenes, f"generating {captions} videos"):
        path = stored / f"{scene.seed}.npy"
        if not path.exists():
            prompt = evaluation_clip_caption(scene, np.random.default_rng((scene.seed, 7)))
            np.save(path, generate(pipeline, prompt, scene.seed, num_frames, size))
        predicted += classify(classifier, np.load(path)[None])
    result = {"prompts": prompts, "captions": captions, "followed": accuracy(predicted, scenes) if scenes else {}}
    (folder / "video.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    rich_print(result)


if __name__ == "__main__":
    typer.run(main)
