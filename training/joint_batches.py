"""Batches of stage 7: latents of still scenes and of clips, with their captions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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

STILL_BATCHES = {16: 16, 32: 6}  # images per step for each latent height and width
CLIP_BATCHES = {16: 8, 32: 2}  # clips per step, an even number
PANS: tuple[Motion, ...] = ("pan", "pan_left")
PAN_SHARE = 0.6  # share of pairs that are always pans, because their direction is the most difficult motion
REVERSED: Mapping[Motion, Motion] = {"pan": "pan_left", "pan_left": "pan", "zoom": "zoom_out", "zoom_out": "zoom"}
"""Motion that is seen when a clip is played backwards."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Latents with their captions, and the motions that the captions tell, None if they tell none.

    `reversed_pairs` are the indices of those clips that are followed by the same clip played backwards.
    """

    latents: torch.Tensor
    captions: list[str]
    motions: list[Motion | None]
    reversed_pairs: list[int] = field(default_factory=list)


class Batches:
    """Random batches of the latents of scenes and of clips in `folder`."""

    def __init__(self, folder: Path, scenes: int, clips: int) -> None:
        """Use `scenes` still scenes and `clips` moving scenes, encoding them when they are first used."""
        self._folder, self._clips = folder, clips
        self._vae = AutoencoderKL.from_pretrained(folder / "vae").to(select_device()).eval()
        self._count = scenes
        moving = (sample_moving_scene(seed) for seed in range(clips))
        self._pans = [scene for scene in moving if scene.motion in PANS and played_backwards(scene) is not None]
        self._scenes: dict[int, torch.Tensor] = {}

    def images(self, rng: np.random.Generator, side: int, motion_share: float) -> Batch:
        """Return latents of random scenes, float16 [B, 4, side, side], and their captions.

        A share of `motion_share` of the captions has words for a random motion, which the image does not show.
        """
        if side not in self._scenes:
            self._scenes[side] = scene_latents(self._folder, self._vae, self._count, side, varied=True)
        chosen = rng.integers(self._count, size=STILL_BATCHES[side])
        described = [image_caption(sample_varied_scene(int(seed)), rng, motion_share) for seed in chosen]
        return with_empty_captions(rng, self._scenes[side][torch.from_numpy(chosen)], described)

    def clips(self, rng: np.random.Generator, side: int) -> Batch:
        """Return latents of random clips, float16 [B, FRAMES, 4, side, side], and their captions.

        Clips are ordered in pairs: the second clip is the first one played backwards, if that is another motion.
        """
        scenes = [sample_moving_scene(int(seed)) for seed in rng.integers(self._clips, size=CLIP_BATCHES[side])]
        pairs = range(0, len(scenes), 2)
        for first in pairs:
            if self._pans and rng.random() < PAN_SHARE:
                scenes[first] = self._pans[int(rng.integers(len(self._pans)))]
        latents = [clip_latents(self._folder, self._vae, scene, side) for scene in scenes]
        backwards = {first: scene for first in pairs if (scene := played_backwards(scenes[first])) is not None}
        for first, scene in backwards.items():
            scenes[first + 1], latents[first + 1] = scene, latents[first].flip(0)
        described: list[tuple[str, Motion | None]] = [(clip_caption(scene, rng), scene.motion) for scene in scenes]
        batch = with_empty_captions(rng, torch.stack(latents), described)
        return replace(
            batch, reversed_pairs=[first for first in backwards if None not in batch.motions[first : first + 2]]
        )


def played_backwards(scene: Scene) -> Scene | None:
    """Return the scene whose clip is that of `scene` played backwards.

    Return None for a motion without an opposite, and for rain and snow, which do not rise.
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
