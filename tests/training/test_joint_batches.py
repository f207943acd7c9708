"""Batches of clips for stage 7: pairs of clips that are played forwards and backwards."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training import clips, joint_batches, motion, vae
from training.joint_losses import frames_of_step
from training.scenes.labels import Scene


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> joint_batches.Batches:
    monkeypatch.setattr(clips, "FRAMES", 4)
    torch.manual_seed(0)
    vae.new_vae((8, 8, 8, 8)).save_pretrained(tmp_path / "vae")
    return joint_batches.Batches(tmp_path, scenes=1, clips=20)


def test_pairs_contain_a_clip_and_the_same_clip_backwards(batches: joint_batches.Batches) -> None:
    rng, reversed_pairs = np.random.default_rng(0), 0
    for _ in range(3):
        batch = batches.clips(rng, 16)
        assert batch.latents.shape == (8, 4, 4, 16, 16)
        for first in range(0, 8, 2):
            backwards = torch.equal(batch.latents[first + 1], batch.latents[first].flip(0))
            forwards, opposite = batch.motions[first : first + 2]
            told = backwards and forwards is not None and opposite is not None
            assert told == (first in batch.reversed_pairs)
            if told and forwards is not None:
                assert joint_batches.REVERSED[forwards] == opposite
                reversed_pairs += 1
    assert reversed_pairs


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
