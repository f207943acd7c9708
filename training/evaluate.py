"""The honest measure: `python -m training.evaluate` has the classifier judge pictures of unseen captions.

Pictures are kept in FOLDER/generated, so a stopped evaluation goes on; delete them for another model.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import StableDiffusionPipeline
from PIL import Image as Picture
from rich import print as show
from rich.progress import track

from training.classifier import LABELS, agreement, load_classifier, read
from training.machine import device, limit_threads
from training.pictures import HELD_OUT
from training.scenes.captions import caption
from training.scenes.labels import Scene, sample_scene
from training.scenes.render import Image
from training.state import DEFAULT_FOLDER

STEPS, GUIDANCE = 20, 4.0


def generate(pipeline: StableDiffusionPipeline, prompt: str, seed: int, size: int = 256) -> Image:
    """Return one picture, uint8 [size, size, 3]."""
    made = pipeline(
        prompt,
        height=size,
        width=size,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(seed),
    )
    return np.asarray(made.images[0])


def confusion(seen: list[str], scenes: list[Scene], label: str) -> dict[str, dict[str, int]]:
    """Return how often each asked value (outer) was read as each value (inner)."""
    counts = Counter((getattr(scene, label), value) for scene, value in zip(scenes, seen, strict=True))
    return {asked: {value: counts[asked, value] for value in LABELS[label]} for asked in LABELS[label]}


def load_pipeline(where: Path) -> StableDiffusionPipeline:
    """Return the assembled pipeline, float32, silent."""
    pipeline = StableDiffusionPipeline.from_pretrained(where, torch_dtype=torch.float32).to(device())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def main(
    folder: Annotated[Path, typer.Option(help="where states and the pipeline are kept")] = DEFAULT_FOLDER,
    count: Annotated[int, typer.Option(help="how many pictures to judge")] = 200,
) -> None:
    """Write agreement and confusion of `count` pictures to FOLDER/evaluation.json."""
    limit_threads()
    pipeline = load_pipeline(folder / "pipeline")
    scenes = [sample_scene(HELD_OUT + index) for index in range(count)]
    home = folder / "generated"
    home.mkdir(parents=True, exist_ok=True)
    pictures = []
    for scene in track(scenes, f"generating {count} pictures"):
        path = home / f"{scene.seed}.png"
        if not path.exists():
            prompt = caption(scene, np.random.default_rng((scene.seed, 7)))
            Picture.fromarray(generate(pipeline, prompt, scene.seed)).save(path)
        pictures.append(np.asarray(Picture.open(path)))
    seen = read(load_classifier(folder), np.stack(pictures))
    result = {
        "pictures": count,
        "steps": STEPS,
        "guidance": GUIDANCE,
        "agreement": agreement(seen, scenes),
        "confusion": {label: confusion(values, scenes, label) for label, values in seen.items()},
    }
    (folder / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(result)


if __name__ == "__main__":
    typer.run(main)
