"""Batches of stage 7: latents of still scenes and of clips, with their captions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from training.clips import clip_latents
from training.denoiser import EMPTY_CAPTION_SHARE
from training.latents import scene_latents
from training.runtime import select_device
from training.scenes.clip_captions import clip_caption, image_caption
from training.scenes.labels import Motion, Scene, sample_moving_scene, sample_varied_scene

STILL_BATCHES = {16: 16, 32: 6, 64: 3}  # images per step for each latent height and width
CLIP_BATCHES = {16: 8, 32: 2}  # clips per step, an even number
REVERSED: Mapping[Motion, Motion] = {"pan": "pan_left", "pan_left": "pan", "zoom": "zoom_out", "zoom_out": "zoom"}
"""Motion that is seen when a clip is played backwards."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Latents with their captions, and the motions that the captions name, None if they name none."""

    latents: torch.Tensor
    captions: list[str]
    motions: list[Motion | None]


class Batches:
    """Random batches of the latents of scenes and of clips in `folder`."""

    def __init__(self, folder: Path, scenes: int, clips: int) -> None:
        """Use `scenes` still scenes and `clips` moving scenes, encoding them when they are first used."""
        self._folder, self._clips = folder, clips
        self._vae = AutoencoderKL.from_pretrained(folder / "vae").to(select_device()).eval()
        self._counts = {16: scenes, 32: scenes, 64: scenes // 8}
        self._scenes: dict[int, torch.Tensor] = {}

    def images(self, rng: np.random.Generator, side: int, motion_share: float) -> Batch:
        """Return latents of random scenes, float16 [B, 4, side, side], and their captions.

        A share of `motion_share` of the captions has words for a random motion, which the image does not show.
        """
        if side not in self._scenes:
            self._scenes[side] = scene_latents(self._folder, self._vae, self._counts[side], side, varied=True)
        chosen = rng.integers(self._counts[side], size=STILL_BATCHES[side])
        described = [image_caption(sample_varied_scene(int(seed)), rng, motion_share) for seed in chosen]
        return with_empty_captions(rng, self._scenes[side][torch.from_numpy(chosen)], described)

    def clips(self, rng: np.random.Generator, side: int) -> Batch:
        """Return latents of random clips, float16 [B, FRAMES, 4, side, side], and their captions.

        Clips are ordered in pairs: the second clip is the first one played backwards, if that is another motion.
        """
        scenes = [sample_moving_scene(int(seed)) for seed in rng.integers(self._clips, size=CLIP_BATCHES[side])]
        latents = [clip_latents(self._folder, self._vae, scene, side) for scene in scenes]
        for first in range(0, len(scenes), 2):
            if (scene := played_backwards(scenes[first])) is not None:
                scenes[first + 1], latents[first + 1] = scene, latents[first].flip(0)
        described: list[tuple[str, Motion | None]] = [(clip_caption(scene, rng), scene.motion) for scene in scenes]
        return with_empty_captions(rng, torch.stack(latents), described)


def played_backwards(scene: Scene) -> Scene | None:
    """Return the scene whose clip is that of `scene` played backwards, or None if there is no such scene.

    Rain and snow do not rise.
    """
    if scene.weather in ("rain", "snow") or scene.motion not in REVERSED:
        return None
    return scene.moving(REVERSED[scene.motion])


def with_empty_captions(
    rng: np.random.Generator, latents: torch.Tensor, described: list[tuple[str, Motion | None]]
) -> Batch:
    """Return a batch with these captions and motions, of which a share of EMPTY_CAPTION_SHARE is left out."""
    kept = [("", None) if rng.random() < EMPTY_CAPTION_SHARE else pair for pair in described]
    return Batch(latents, [text for text, _ in kept], [motion for _, motion in kept])
