"""Training images: rendered scenes stored on disk, random crops, and conversion between arrays and tensors."""

import hashlib
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from training.scenes.labels import ACCENTS, MOTIONS, PLACES, SEASONS, TIMES, TREES, WEATHERS, Scene, sample_scene
from training.scenes.render import Image, render

HELD_OUT = 1_000_000  # scenes with this seed or a larger one are reserved for evaluation


@cache
def renderer_fingerprint() -> str:
    """Return a short hash of sample renders, so that files made by an older renderer are not reused."""
    digest = hashlib.sha256()
    for index, (place, weather) in enumerate(product(PLACES, WEATHERS)):
        digest.update(render(Scene(place, TIMES[index % 4], weather, "wide", 1), 64, 64).tobytes())
    return digest.hexdigest()[:8]


@cache
def variation_fingerprint() -> str:
    """Return a short hash of sample renders like `renderer_fingerprint`, for files of moving and varied scenes."""
    digest = hashlib.sha256(renderer_fingerprint().encode())
    for index, place in enumerate(PLACES):
        season, trees, accent = SEASONS[1 + index % 2], TREES[1 + index % 3], ACCENTS[1 + index % 4]
        varied = Scene(place, "day", "clear", "wide", 1, season=season, trees=trees, accent=accent)
        digest.update(render(varied, 64, 64).tobytes())
    for motion, weather in product(MOTIONS, WEATHERS):
        digest.update(render(Scene("mountain", "dusk", weather, "wide", 1, motion), 64, 64, moment=0.7).tobytes())
    return digest.hexdigest()[:8]


def render_scenes(first_seed: int, count: int, size: int) -> Image:
    """Render `count` scenes with consecutive seeds from `first_seed`; return uint8 [count, size, size, 3]."""
    return np.stack([render(sample_scene(first_seed + index), size, size) for index in range(count)])


def scene_images(folder: Path, count: int, size: int = 256, first_seed: int = 0) -> Image:
    """Return the result of `render_scenes` as a memory-mapped array, rendering it to a file in `folder` if needed."""
    path = folder / f"scenes-{renderer_fingerprint()}-{size}-{first_seed}-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        shape = (count, size, size, 3)
        images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        for index in track(range(count), f"rendering {count} scenes"):
            images[index] = render_scenes(first_seed + index, 1, size)[0]
        images.flush()
        partial.replace(path)
    mapped: Image = np.load(path, mmap_mode="r")
    return mapped


def random_crops(images: Image, rng: np.random.Generator, count: int, size: int) -> Image:
    """Return `count` square crops of random images, half of them mirrored, uint8 [count, size, size, 3].

    Each crop is the more detailed of two random candidates, because plain sky needs little training.
    """
    limit = images.shape[1] - size + 1
    crops = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        pair = []
        for _ in range(2):
            which, top, left = rng.integers(len(images)), rng.integers(limit), rng.integers(limit)
            pair.append(images[which, top : top + size, left : left + size])
        crop = max(pair, key=_detail)
        crops[index] = crop[:, ::-1] if rng.random() < 0.5 else crop
    return crops


def _detail(image: Image) -> float:
    return float(np.abs(np.diff(image[..., 1].astype(np.int16))).mean())


def to_tensor(images: Image, device: torch.device) -> torch.Tensor:
    """Convert images uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [-1, 1], the value range of diffusers."""
    return torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def to_images(tensor: torch.Tensor) -> Image:
    """Convert float [B, 3, H, W] in [-1, 1] to images uint8 [B, H, W, 3]; values outside the range are clipped."""
    pixels = (tensor.float().clamp(-1, 1) + 1) * 127.5
    array: Image = pixels.round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return array
