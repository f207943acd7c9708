"""Evaluation of generated images: `python -m training.evaluate` compares the classifier's labels with the captions.

It also compares sharpness and detail of the images with those of the VAE's reconstructions of rendered scenes.
The captions and seeds are not used for training. Images are stored in FOLDER/generated so that an interrupted
evaluation can resume; delete that folder to evaluate another model.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image as PILImage
from rich import print as rich_print
from rich.progress import track

from training.checkpoint import DEFAULT_FOLDER
from training.classifier import LABELS, accuracy, classify, load_classifier
from training.detail import compare_detail
from training.finish_vae import decode, encode
from training.images import HELD_OUT, scene_images
from training.runtime import limit_threads, select_device
from training.scenes.captions import caption
from training.scenes.labels import Scene, sample_scene
from training.scenes.render import Image

STEPS, GUIDANCE = 20, 4.0


def generate(pipeline: StableDiffusionPipeline, prompt: str, seed: int, size: int = 256, steps: int = STEPS) -> Image:
    """Generate one image, uint8 [size, size, 3]."""
    output = pipeline(
        prompt,
        height=size,
        width=size,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(seed),
    )
    return np.asarray(output.images[0])


def confusion(predicted: list[str], scenes: list[Scene], label: str) -> dict[str, dict[str, int]]:
    """Return the confusion matrix of `label`: {true value: {predicted value: number of scenes}}."""
    counts = Counter((getattr(scene, label), value) for scene, value in zip(scenes, predicted, strict=True))
    return {true: {value: counts[true, value] for value in LABELS[label]} for true in LABELS[label]}


def detail(vae: AutoencoderKL, folder: Path, images: Image) -> dict[str, dict[str, float]]:
    """Compare images of the evaluation scenes, uint8 [N, 256, 256, 3], with the reconstructions of these scenes."""
    rendered = scene_images(folder, len(images), first_seed=HELD_OUT)
    return compare_detail(images, decode(vae, encode(vae, rendered)))


def load_pipeline(path: Path) -> StableDiffusionPipeline:
    """Return the assembled pipeline in float32, without a progress bar."""
    pipeline = StableDiffusionPipeline.from_pretrained(path, torch_dtype=torch.float32).to(select_device())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def main(
    folder: Annotated[Path, typer.Option(help="Folder of checkpoints and the pipeline.")] = DEFAULT_FOLDER,
    count: Annotated[int, typer.Option(help="Number of images to generate.")] = 200,
) -> None:
    """Write accuracy, confusion matrices and detail of `count` generated images to FOLDER/evaluation.json."""
    limit_threads()
    pipeline = load_pipeline(folder / "pipeline")
    scenes = [sample_scene(HELD_OUT + index) for index in range(count)]
    generated = folder / "generated"
    generated.mkdir(parents=True, exist_ok=True)
    images = []
    for scene in track(scenes, f"generating {count} images"):
        path = generated / f"{scene.seed}.png"
        if not path.exists():
            prompt = caption(scene, np.random.default_rng((scene.seed, 7)))
            PILImage.fromarray(generate(pipeline, prompt, scene.seed)).save(path)
        images.append(np.asarray(PILImage.open(path)))
    predicted = classify(load_classifier(folder), np.stack(images))
    result = {
        "images": count,
        "steps": STEPS,
        "guidance": GUIDANCE,
        "accuracy": accuracy(predicted, scenes),
        "detail": detail(pipeline.vae, folder, np.stack(images)),
        "confusion": {label: confusion(values, scenes, label) for label, values in predicted.items()},
    }
    (folder / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    rich_print(result)


if __name__ == "__main__":
    typer.run(main)
