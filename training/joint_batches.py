"""Batches of stage 7: latents of still scenes and of clips, with their captions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from training.clips import clip_latents
from training.denoiser import EMPTY_CAPTION_SHARE
from training.joint_phases import Phase
from training.latents import scene_latents
from training.runtime import select_device
from training.scenes.clip_captions import clip_caption, image_caption, without_motion
from training.scenes.labels import Motion, Scene, Weather, sample_moving_scene, sample_varied_scene

STILL_BATCHES = {16: 16, 32: 6}  # images per step for each latent height and width
CLIP_BATCHES = {16: 8, 32: 2}  # clips per step, an even number
PANS: tuple[Motion, ...] = ("pan", "pan_left")
STATIC: tuple[Motion, ...] = ("still", "drift", "sunset")
"""Motions that do not move the camera."""
FALLING: tuple[Weather, ...] = ("rain", "snow")
"""Weathers that cannot be played backwards."""
REVERSED: Mapping[Motion, Motion] = {"pan": "pan_left", "pan_left": "pan", "zoom": "zoom_out", "zoom_out": "zoom"}
"""Motion that is seen when a clip is played backwards."""


@dataclass(frozen=True, slots=True)
class Described:
    """A caption, the motion that it names, and another caption with which a loss compares it.

    For a clip, `other` has the opposite motion. For an image, `other` is the caption without the words for the motion.
    """

    text: str
    motion: Motion | None
    other: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Latents with their captions, and the motions that the captions name, or None.

    `others` are other captions of the same scenes, or None (see Described).
    """

    latents: torch.Tensor
    captions: list[str]
    motions: list[Motion | None]
    others: list[str | None]

    def first(self, count: int) -> "Batch":
        """Return a batch of the first `count` clips."""
        return Batch(self.latents[:count], self.captions[:count], self.motions[:count], self.others[:count])


class Batches:
    """Random batches of the latents of scenes and of clips in `folder`."""

    def __init__(self, folder: Path, scenes: int, clips: int) -> None:
        """Use `scenes` still scenes and `clips` moving scenes, encoding them when they are first used."""
        self._folder, self._clips = folder, clips
        self._vae = AutoencoderKL.from_pretrained(folder / "vae").to(select_device()).eval()
        self._count = scenes
        moving = [sample_moving_scene(seed) for seed in range(clips)]
        self._pans = [scene for scene in moving if scene.motion in PANS]
        self._falling_pans = [scene for scene in self._pans if scene.weather in FALLING]
        self._static = [scene for scene in moving if scene.motion in STATIC]
        self._scenes: dict[int, torch.Tensor] = {}

    def images(self, rng: np.random.Generator, side: int, motion_share: float) -> Batch:
        """Return latents of random scenes, float16 [B, 4, side, side], and their captions.

        A share of `motion_share` of the captions has words for a random motion, which the image does not show.
        """
        if side not in self._scenes:
            self._scenes[side] = scene_latents(self._folder, self._vae, self._count, side, varied=True)
        chosen = rng.integers(self._count, size=STILL_BATCHES[side])
        captions = [described_image(sample_varied_scene(int(seed)), rng, motion_share) for seed in chosen]
        return with_empty_captions(rng, self._scenes[side][torch.from_numpy(chosen)], captions)

    def clips(self, rng: np.random.Generator, side: int, phase: Phase) -> Batch:
        """Return latents of random clips, float16 [B, FRAMES, 4, side, side], and their captions.

        Clips are ordered in pairs: the second clip is the first one played backwards, if that is another motion.
        `phase` decides how often some motions are chosen.
        """
        scenes = [sample_moving_scene(int(seed)) for seed in rng.integers(self._clips, size=CLIP_BATCHES[side])]
        pairs = range(0, len(scenes), 2)
        for first in pairs:
            scenes[first : first + 2] = self._pair(scenes[first : first + 2], rng, phase)
        latents = [clip_latents(self._folder, self._vae, scene, side) for scene in scenes]
        for first in pairs:
            backwards = played_backwards(scenes[first])
            if backwards is not None:
                scenes[first + 1], latents[first + 1] = backwards, latents[first].flip(0)
        return with_empty_captions(rng, torch.stack(latents), [described_clip(scene, rng) for scene in scenes])

    def _pair(self, drawn: list[Scene], rng: np.random.Generator, phase: Phase) -> list[Scene]:
        """Return two scenes: those in `drawn`, or scenes with a motion that `phase` prefers."""
        if self._pans and rng.random() < phase.pan_share:
            if self._falling_pans and rng.random() < phase.falling_share:
                return [random_scene(self._falling_pans, rng) for _ in range(2)]
            return [random_scene(self._pans, rng), drawn[1]]
        if self._static and rng.random() < phase.static_share:
            return [random_scene(self._static, rng) for _ in range(2)]
        return drawn


def random_scene(scenes: list[Scene], rng: np.random.Generator) -> Scene:
    """Return one of `scenes`."""
    return scenes[int(rng.integers(len(scenes)))]


def described_image(scene: Scene, rng: np.random.Generator, motion_share: float) -> Described:
    """Return a random caption of a still image, which names a random motion with the probability `motion_share`."""
    text, motion = image_caption(scene, rng, motion_share)
    return Described(text, motion, None if motion is None else without_motion(text))


def described_clip(scene: Scene, rng: np.random.Generator) -> Described:
    """Return a random caption of a moving scene."""
    opposite = REVERSED.get(scene.motion)
    other = None if opposite is None else clip_caption(scene.moving(opposite), rng)
    return Described(clip_caption(scene, rng), scene.motion, other)


def played_backwards(scene: Scene) -> Scene | None:
    """Return the scene whose clip is that of `scene` played backwards.

    Return None for a motion without an opposite, and for rain and snow, which do not rise.
    """
    if scene.weather in FALLING or scene.motion not in REVERSED:
        return None
    return scene.moving(REVERSED[scene.motion])


def with_empty_captions(rng: np.random.Generator, latents: torch.Tensor, captions: list[Described]) -> Batch:
    """Return a batch with these captions, of which a share of EMPTY_CAPTION_SHARE is left out."""
    kept = [Described("", None) if rng.random() < EMPTY_CAPTION_SHARE else caption for caption in captions]
    return Batch(
        latents,
        [caption.text for caption in kept],
        [caption.motion for caption in kept],
        [caption.other for caption in kept],
    )
