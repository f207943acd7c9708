from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from training import motion_classifier
from training.evaluate_video import PROMPTS
from training.motion_classifier import accuracy, classify, load_motion_classifier, mirror, to_clips
from training.scenes.captions import MOTION_PHRASES
from training.scenes.labels import MOTIONS, Scene, sample_moving_scene
from training.scenes.render import render_motion

CPU = torch.device("cpu")


def test_training_scenes_have_all_motions_and_clouds_where_they_drift() -> None:
    scenes = [sample_moving_scene(seed) for seed in range(700)]
    counts = Counter(scene.motion for scene in scenes)
    assert set(counts) == set(MOTIONS)
    assert min(counts.values()) > 70
    assert {scene.weather for scene in scenes if scene.motion == "drift"} == {"clouds"}


def test_the_sun_sets_only_where_it_is_visible() -> None:
    scenes = [scene for scene in map(sample_moving_scene, range(700)) if scene.motion == "sunset"]
    assert {scene.weather for scene in scenes} == {"clear", "clouds"}
    assert {scene.time for scene in scenes} == {"day", "dusk"}


def test_input_has_evenly_spaced_frames_and_the_range_of_the_network() -> None:
    values = np.linspace(0, 255, 22).round().astype(np.uint8)
    video = np.broadcast_to(values[None, :, None, None, None], (1, 22, 128, 192, 3)).copy()
    clips = to_clips(video, CPU)
    assert clips.shape == (1, 8, 64, 64)
    expected = values[::3].astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(clips[0, :, 5, 5].numpy(), expected, atol=1e-5)
    assert clips.min() == -1
    assert clips.max() == 1


def test_mirrored_pans_have_the_opposite_direction_and_drifting_clouds_are_not_mirrored() -> None:
    inputs = torch.arange(4.0).expand(len(MOTIONS), 8, 4, 4)
    labels = torch.arange(len(MOTIONS))
    mirrored, targets = mirror(inputs, labels, torch.ones(len(MOTIONS), dtype=torch.bool))
    changed = {MOTIONS[i]: MOTIONS[int(targets[i])] for i in range(len(MOTIONS)) if targets[i] != i}
    assert changed == {"pan": "pan_left", "pan_left": "pan"}
    kept = [motion for motion, clip in zip(MOTIONS, mirrored, strict=True) if torch.equal(clip, inputs[0])]
    assert kept == ["drift"]
    assert torch.equal(mirror(inputs, labels, torch.zeros(len(MOTIONS), dtype=torch.bool))[1], labels)


@pytest.mark.slow
def test_classifier_learns_the_motions_of_its_training_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion_classifier, "BATCH", 6)
    motion_classifier.train(tmp_path, steps=30, scenes=6)
    scenes = [sample_moving_scene(seed) for seed in range(6)]
    model = load_motion_classifier(tmp_path)
    assert accuracy(classify(model, motion_classifier.clips(tmp_path, 6)), scenes)["all"] == 1
    large = render_motion(scenes[0], 15, 96, 96)
    assert classify(model, large[None]) == [scenes[0].motion]


def test_accuracy_is_counted_for_each_motion_and_for_all() -> None:
    scenes = [Scene("sea", "dusk", "clear", "wide", 0, motion) for motion in ("pan", "pan", "zoom", "sunset")]
    result = accuracy(["pan", "pan_left", "zoom", "sunset"], scenes)
    assert result == {"pan": 0.5, "zoom": 1, "sunset": 1, "all": 0.75}


def test_prompts_of_the_video_evaluation_request_their_motion_in_words_of_the_grammar() -> None:
    for prompt, motion in PROMPTS.items():
        assert any(prompt.endswith(phrase) for phrase in MOTION_PHRASES[motion]), prompt
