"""Each stage for a few steps, with networks so small that a step takes milliseconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffPipeline, AutoencoderKL, MotionAdapter, StableDiffusionPipeline

from training import (
    assemble,
    classifier,
    denoiser,
    evaluate,
    evaluate_video,
    finish_vae,
    latents,
    motion,
    polish,
    run,
    vae,
)
from training.pictures import scene_pictures
from training.scenes.labels import Scene, sample_scene
from training.scenes.render import render_motion
from training.state import load_state, save_state

pytestmark = pytest.mark.slow

TINY_VAE = (8, 8, 8, 8)
TINY_UNET = (16, 16, 32)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae, "SMALL_BATCH", 2)
    monkeypatch.setattr(run, "SAVE_EVERY", 2)
    monkeypatch.setattr(denoiser, "BATCHES", {16: 2})
    monkeypatch.setattr(motion, "BATCHES", {16: 1})
    monkeypatch.setattr(motion, "FRAMES", 4)
    monkeypatch.setattr(motion, "SEEN", 3)


@pytest.fixture
def stopped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the first save the last thing that a stage does, as when its machine is taken away."""

    def save_and_stop(path: Path, state: dict[str, Any]) -> None:
        save_state(path, state)
        monkeypatch.setattr(run, "save_state", save_state)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "save_state", save_and_stop)


@pytest.fixture
def with_vae(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    vae.new_vae(TINY_VAE).save_pretrained(tmp_path / "vae")
    return tmp_path


def saved(path: Path) -> dict[str, Any]:
    state = load_state(path, CPU)
    assert state is not None
    return state


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_vae_resumes_as_if_it_had_not_been_stopped(tmp_path: Path, stopped_once: None) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        vae.train(parts, steps=4, scenes=3, channels=TINY_VAE)
    assert saved(parts / "vae.pt")["step"] == 2
    vae.train(parts, steps=4, scenes=3, channels=TINY_VAE)
    vae.train(whole, steps=4, scenes=3, channels=TINY_VAE)
    first, second = (saved(folder / "vae.pt") for folder in (whole, parts))
    assert second["step"] == 4
    assert same(first["model"], second["model"])


def test_the_vae_learns(tmp_path: Path) -> None:
    early = vae.train(tmp_path, steps=2, scenes=1, channels=TINY_VAE)
    assert vae.train(tmp_path, steps=30, scenes=1, channels=TINY_VAE) < 0.8 * early


def test_standardising_moves_latents_but_not_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = vae.new_vae(TINY_VAE).eval()
    pictures = scene_pictures(tmp_path, 6, size=64)
    before = finish_vae.encode(model, pictures)
    decoded = finish_vae.decode(model, before)
    finish_vae.standardise(model, before)
    after = finish_vae.encode(model, pictures)
    assert after.std(dim=(0, 2, 3)).tolist() == pytest.approx([1] * 4, rel=0.02)
    assert after.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0] * 4, abs=0.02)
    assert np.abs(finish_vae.decode(model, after).astype(int) - decoded).max() <= 1


def test_polishing_changes_the_decoder_alone(with_vae: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polish, "LARGE_BATCH", 1)
    before = AutoencoderKL.from_pretrained(with_vae / "vae")
    polish.train(with_vae, steps=2, scenes=1, held_out=1)
    after = AutoencoderKL.from_pretrained(with_vae / "vae")
    assert latents.encoder_mark(after) == latents.encoder_mark(before)
    assert not same(after.decoder.state_dict(), before.decoder.state_dict())


def test_latents_are_encoded_once_and_anew_for_another_encoder(with_vae: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoencoderKL.from_pretrained(with_vae / "vae")
    first = latents.scene_latents(with_vae, model, 3, 8)
    assert first.shape == (3, 4, 8, 8)
    monkeypatch.setattr(latents, "encode", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(latents.scene_latents(with_vae, model, 3, 8), first)
    with torch.no_grad():
        model.decoder.conv_out.bias += 1
    assert torch.equal(latents.scene_latents(with_vae, model, 3, 8), first)
    with torch.no_grad():
        model.encoder.conv_out.bias += 1
    with pytest.raises(pytest.fail.Exception):
        latents.scene_latents(with_vae, model, 3, 8)


def test_the_denoiser_resumes_and_its_pipeline_makes_pictures(
    with_vae: Path, stopped_once: None, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        denoiser.train(with_vae, steps=3, scenes=3, channels=TINY_UNET)
    denoiser.train(with_vae, steps=3, scenes=3, channels=TINY_UNET)
    assert saved(with_vae / "denoiser.pt")["step"] == 3
    assemble.assemble(with_vae, TINY_UNET).save_pretrained(tmp_path / "pipeline")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    made = [
        pipeline("a snowy mountain at dusk", height=64, width=128, num_inference_steps=2,
                 generator=torch.Generator().manual_seed(1), output_type="np").images[0]
        for _ in range(2)
    ]  # fmt: skip
    assert made[0].shape == (64, 128, 3)
    np.testing.assert_array_equal(*made)


def test_the_adapter_learns_motion_and_its_pipeline_makes_frames(with_vae: Path) -> None:
    denoiser.train(with_vae, steps=2, scenes=2, channels=TINY_UNET)
    motion.train(with_vae, steps=2, clips=1, channels=TINY_UNET)
    weights = MotionAdapter.from_pretrained(with_vae / "motion").state_dict()
    assert any(weights[name].any() for name in weights if name.endswith("proj_out.weight"))
    parts = assemble.assemble(with_vae, TINY_UNET).components
    for unused in ("safety_checker", "requires_safety_checker"):
        parts.pop(unused, None)
    pipeline = AnimateDiffPipeline(**parts, motion_adapter=MotionAdapter.from_pretrained(with_vae / "motion"))
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline("a city, zooming in", num_frames=8, height=64, width=64, num_inference_steps=2, output_type="np")
    assert made.frames.shape == (1, 8, 64, 64, 3)


def test_sizes_follow_the_plan() -> None:
    assert denoiser.side_at(0) == denoiser.side_at(denoiser.SMALL_STEPS - 1) == 16
    assert {denoiser.side_at(step) for step in range(denoiser.SMALL_STEPS, denoiser.LARGE_FROM)} == {32}
    assert {denoiser.side_at(denoiser.LARGE_FROM + step) for step in range(20)} == {32, 64}


def test_the_classifier_learns_its_labels_and_is_judged_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "BATCH", 4)
    scenes = [sample_scene(seed) for seed in range(4)]
    classifier.train(tmp_path, steps=40, scenes=4)
    read = classifier.read(classifier.load_classifier(tmp_path), scene_pictures(tmp_path, 4))
    assert classifier.agreement(read, scenes)["place"] == 1
    assert classifier.agreement({"place": [*read["place"][1:], "sea"]}, scenes)["place"] < 1


def test_confusion_counts_what_was_asked_against_what_was_seen() -> None:
    scenes = [Scene(place, "day", "clear", "wide", 0) for place in ("sea", "sea", "city")]
    table = evaluate.confusion(["sea", "field", "city"], scenes, "place")
    assert table["sea"] == {"mountain": 0, "sea": 1, "desert": 0, "forest": 0, "city": 0, "field": 1}
    assert table["city"]["city"] == sum(table["city"].values()) == 1


def test_coherence_tells_a_motion_from_its_shuffled_frames() -> None:
    moving = render_motion(Scene("sea", "dusk", "clear", "wide", 0, "sunset"), 8, 64, 64)
    assert evaluate_video.coherence(moving)["ratio"] < 0.6
    noise = np.random.default_rng(0).integers(0, 256, moving.shape, dtype=np.uint8)
    assert evaluate_video.coherence(noise)["ratio"] == pytest.approx(1, abs=0.02)
