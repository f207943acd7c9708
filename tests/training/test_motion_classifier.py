from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from training import motion_classifier
from training.evaluate_video import PROMPTS
from training.motion_classifier import accuracy, classify, load_motion_classifier, random_motion_scene, to_clips
from training.scenes.captions import MOTION_PHRASES
from training.scenes.labels import MOTIONS, Scene
from training.scenes.render import render_motion

CPU = torch.device("cpu")


def test_training_scenes_have_all_motions_and_clouds_where_they_drift() -> None:
    scenes = [random_motion_scene(seed) for seed in range(700)]
    counts = Counter(scene.motion for scene in scenes)
    assert set(counts) == set(MOTIONS)
    assert min(counts.values()) > 70
    assert {scene.weather for scene in scenes if scene.motion == "drift"} == {"clouds"}


def test_input_has_evenly_spaced_frames_and_the_range_of_the_network() -> None:
    values = np.linspace(0, 255, 22).round().astype(np.uint8)
    video = np.broadcast_to(values[None, :, None, None, None], (1, 22, 128, 192, 3)).copy()
    clips = to_clips(video, CPU)
    assert clips.shape == (1, 8, 64, 64)
    expected = values[::3].astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(clips[0, :, 5, 5].numpy(), expected, atol=1e-5)
    assert clips.min() == -1
    assert clips.max() == 1


@pytest.mark.slow
def test_classifier_learns_the_motions_of_its_training_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(motion_classifier, "BATCH", 6)
    motion_classifier.train(tmp_path, steps=30, scenes=6)
    scenes = [random_motion_scene(seed) for seed in range(6)]
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
