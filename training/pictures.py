"""Scenes drawn once and kept on disk, so that drawing takes no time from training."""

import hashlib
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from training.scenes.labels import PLACES, TIMES, WEATHERS, Scene, sample_scene
from training.scenes.render import Image, render

HELD_OUT = 1_000_000  # seeds from here on are never trained on


@cache
def renderer_mark() -> str:
    """Return a short name for how scenes are drawn now, so that older drawings are not taken for ours."""
    digest = hashlib.sha256()
    for index, (place, weather) in enumerate(product(PLACES, WEATHERS)):
        digest.update(render(Scene(place, TIMES[index % 4], weather, "wide", 1), 64, 64).tobytes())
    return digest.hexdigest()[:8]


def draw_scenes(first_seed: int, count: int, size: int) -> Image:
    """Return the pictures of `count` scenes from `first_seed` on, uint8 [count, size, size, 3]."""
    return np.stack([render(sample_scene(first_seed + index), size, size) for index in range(count)])


def scene_pictures(folder: Path, count: int, size: int = 256, first_seed: int = 0) -> Image:
    """Return what `draw_scenes` does, from disk where it has been drawn before."""
    path = folder / f"scenes-{renderer_mark()}-{size}-{first_seed}-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        shape = (count, size, size, 3)
        pictures = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        for index in track(range(count), f"drawing {count} scenes"):
            pictures[index] = draw_scenes(first_seed + index, 1, size)[0]
        pictures.flush()
        partial.replace(path)
    mapped: Image = np.load(path, mmap_mode="r")
    return mapped


def random_crops(pictures: Image, rng: np.random.Generator, count: int, size: int) -> Image:
    """Return `count` squares of random scenes, half of them mirrored, uint8 [count, size, size, 3].

    Of two random squares the busier is taken: empty sky is learned soon enough.
    """
    limit = pictures.shape[1] - size + 1
    crops = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        pair = []
        for _ in range(2):
            which, top, left = rng.integers(len(pictures)), rng.integers(limit), rng.integers(limit)
            pair.append(pictures[which, top : top + size, left : left + size])
        crop = max(pair, key=_busyness)
        crops[index] = crop[:, ::-1] if rng.random() < 0.5 else crop
    return crops


def _busyness(picture: Image) -> float:
    return float(np.abs(np.diff(picture[..., 1].astype(np.int16))).mean())


def to_tensor(pictures: Image, where: torch.device) -> torch.Tensor:
    """Return pictures uint8 [B, H, W, 3] as float32 [B, 3, H, W] in -1…1, the range of diffusers."""
    return torch.from_numpy(np.array(pictures)).to(where).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def to_pictures(tensor: torch.Tensor) -> Image:
    """Return float [B, 3, H, W] in -1…1 as uint8 [B, H, W, 3]."""
    pixels = (tensor.float().clamp(-1, 1) + 1) * 127.5
    array: Image = pixels.round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return array
