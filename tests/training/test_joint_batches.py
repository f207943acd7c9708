"""Batches of clips for stage 7: pairs of clips that are played forwards and backwards."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training import clips, joint_batches, motion, vae
from training.joint_losses import frames_of_step
from training.joint_phases import MOTIONS_PHASE
from training.scenes.captions import MOTION_PHRASES, WEATHER_ADJECTIVES, WEATHER_PHRASES
from training.scenes.labels import Scene, Weather


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> joint_batches.Batches:
    monkeypatch.setattr(clips, "FRAMES", 4)
    torch.manual_seed(0)
    vae.new_vae((8, 8, 8, 8)).save_pretrained(tmp_path / "vae")
    return joint_batches.Batches(tmp_path, scenes=1, clips=20)


def test_pairs_contain_a_clip_and_the_same_clip_backwards(batches: joint_batches.Batches) -> None:
    rng, pairs = np.random.default_rng(0), 0
    for _ in range(3):
        batch = batches.clips(rng, 16, MOTIONS_PHASE)
        assert batch.latents.shape == (8, 4, 4, 16, 16)
        for first in range(0, 8, 2):
            forwards, opposite = batch.motions[first : first + 2]
            if torch.equal(batch.latents[first + 1], batch.latents[first].flip(0)) and forwards and opposite:
                assert joint_batches.REVERSED[forwards] == opposite
                pairs += 1
    assert pairs


def test_a_phase_can_use_only_pans_in_rain_and_snow(batches: joint_batches.Batches) -> None:
    phase = replace(MOTIONS_PHASE, pan_share=1.0, falling_share=1.0)
    batch = batches.clips(np.random.default_rng(0), 16, phase)
    captions = [text for text in batch.captions if text]
    words = [
        word for weather in joint_batches.FALLING for word in (*WEATHER_ADJECTIVES[weather], *WEATHER_PHRASES[weather])
    ]
    assert captions
    assert all(any(word in text for word in words) for text in captions)
    assert {motion for motion in batch.motions if motion} <= set(joint_batches.PANS)


@pytest.mark.parametrize("weather", ["clear", "snow"])
def test_clips_of_pans_and_zooms_have_a_caption_for_the_opposite_direction(weather: Weather) -> None:
    rng = np.random.default_rng(0)
    scene = Scene("city", "day", weather, "wide", seed=1, motion="pan")
    for _ in range(20):
        described = joint_batches.described_clip(scene, rng)
        assert described.text.endswith(tuple(MOTION_PHRASES["pan"]))
        assert described.other is not None
        assert described.other.endswith(tuple(MOTION_PHRASES["pan_left"]))
    assert joint_batches.described_clip(scene.moving("sunset"), rng).other is None


def test_empty_captions_have_no_motion_and_no_opposite() -> None:
    described = joint_batches.Described("a city, zooming in", "zoom", "a city, zooming out")
    batch = joint_batches.with_empty_captions(np.random.default_rng(0), torch.zeros(200), [described] * 200)
    told = set(zip(batch.captions, batch.motions, batch.others, strict=True))
    assert told == {("", None, None), (described.text, described.motion, described.other)}


def test_clips_are_not_played_backwards_if_rain_would_rise_or_the_motion_has_no_opposite() -> None:
    scene = Scene("mountain", "day", "clear", "wide", seed=1, motion="zoom")
    assert joint_batches.played_backwards(scene) == scene.moving("zoom_out")
    assert joint_batches.played_backwards(replace(scene, weather="rain")) is None
    assert joint_batches.played_backwards(scene.moving("sunset")) is None


def test_random_positions_of_frames_are_the_same_for_a_clip_played_backwards() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        positions = frames_of_step(rng)
        assert len(set(positions.tolist())) == motion.FRAMES_PER_STEP
        gaps = set(np.diff(positions).tolist())
        assert gaps == {1} or np.array_equal(clips.FRAMES - 1 - positions[::-1], positions)
