"""Each training stage runs for a few steps with networks so small that a step takes milliseconds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffPipeline, AutoencoderKL, MotionAdapter, StableDiffusionPipeline
from skimage.metrics import structural_similarity
from transformers import CLIPTextModel, CLIPTokenizer

from codec_scenes import MODEL_FOLDER
from training import (
    assemble,
    classifier,
    clips,
    denoiser,
    evaluate,
    evaluate_video,
    finish_vae,
    joint,
    joint_batches,
    joint_losses,
    joint_phases,
    latents,
    losses,
    measure_vae,
    motion,
    optimizer,
    polish,
    published,
    trainer,
    vae,
)
from training.checkpoint import load_checkpoint, save_checkpoint
from training.images import HELD_OUT, scene_images, to_tensor
from training.scenes.labels import MOTIONS, Scene, sample_scene, sample_varied_scene
from training.scenes.render import render_motion
from training.tokenizer import build_tokenizer
from training.video_denoiser import VideoDenoiser

pytestmark = pytest.mark.slow

TINY_VAE = (8, 8, 8, 8)
TINY_UNET = (16, 16, 32)
CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae, "SMALL_BATCH", 2)
    monkeypatch.setattr(trainer, "CHECKPOINT_INTERVAL", 2)
    monkeypatch.setattr(denoiser, "BATCHES", {16: 2})
    monkeypatch.setattr(motion, "BATCHES", {16: 1})
    for module in (clips, motion, joint_losses):
        monkeypatch.setattr(module, "FRAMES", 4)
    for module in (motion, joint_losses):
        monkeypatch.setattr(module, "FRAMES_PER_STEP", 3)
    monkeypatch.setattr(joint_batches, "STILL_BATCHES", {16: 2})
    monkeypatch.setattr(joint_batches, "CLIP_BATCHES", {16: 2})
    for name in ("MOTIONS_PHASE", "QUALITY_PHASE", "FALLING_PHASE"):
        monkeypatch.setattr(joint_phases, name, replace(getattr(joint_phases, name), small_share=1.0))
    monkeypatch.setattr(joint_phases, "QUALITY_FROM", 2)
    monkeypatch.setattr(joint_phases, "FALLING_FROM", 3)
    monkeypatch.setattr(joint, "WORDS_STEPS", 1)


@pytest.fixture
def interrupted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt training directly after its first checkpoint."""

    def save_and_interrupt(path: Path, state: dict[str, Any]) -> None:
        save_checkpoint(path, state)
        monkeypatch.setattr(trainer, "save_checkpoint", save_checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "save_checkpoint", save_and_interrupt)


@pytest.fixture
def with_vae(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    vae.new_vae(TINY_VAE).save_pretrained(tmp_path / "vae")
    return tmp_path


def checkpoint(path: Path) -> dict[str, Any]:
    state = load_checkpoint(path, CPU)
    assert state is not None
    return state


def equal_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_interrupted_vae_training_gives_the_same_weights_as_uninterrupted(
    tmp_path: Path, interrupted_once: None
) -> None:
    uninterrupted, interrupted = tmp_path / "uninterrupted", tmp_path / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        vae.train(interrupted, steps=4, scenes=3, channels=TINY_VAE)
    assert checkpoint(interrupted / "vae.pt")["step"] == 2
    vae.train(interrupted, steps=4, scenes=3, channels=TINY_VAE)
    vae.train(uninterrupted, steps=4, scenes=3, channels=TINY_VAE)
    first, second = (checkpoint(folder / "vae.pt") for folder in (uninterrupted, interrupted))
    assert second["step"] == 4
    assert equal_weights(first["model"], second["model"])


def test_vae_loss_decreases(tmp_path: Path) -> None:
    early = vae.train(tmp_path, steps=2, scenes=1, channels=TINY_VAE)
    assert vae.train(tmp_path, steps=30, scenes=1, channels=TINY_VAE) < 0.8 * early


def test_standardise_normalises_latents_and_keeps_decoded_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = vae.new_vae(TINY_VAE).eval()
    images = scene_images(tmp_path, 6, size=64)
    before = finish_vae.encode(model, images)
    decoded = finish_vae.decode(model, before)
    finish_vae.standardise(model, before)
    after = finish_vae.encode(model, images)
    assert after.std(dim=(0, 2, 3)).tolist() == pytest.approx([1] * 4, rel=0.02)
    assert after.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0] * 4, abs=0.02)
    assert np.abs(finish_vae.decode(model, after).astype(int) - decoded).max() <= 1


def test_deepened_vae_has_more_layers_and_the_same_outputs(with_vae: Path) -> None:
    before = AutoencoderKL.from_pretrained(with_vae / "vae").eval()
    after = polish.deepen(before, 2).eval()
    assert after.config.layers_per_block == 2
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        encoded = before.encode(images).latent_dist.mean
        assert torch.equal(after.encode(images).latent_dist.mean, encoded)
        assert torch.equal(after.decode(encoded).sample, before.decode(encoded).sample)


@pytest.mark.parametrize("muon", [False, True])
def test_polish_trains_only_the_decoder(with_vae: Path, monkeypatch: pytest.MonkeyPatch, muon: bool) -> None:
    monkeypatch.setattr(polish, "IMAGE_SIZE", 64)
    before = polish.deepen(AutoencoderKL.from_pretrained(with_vae / "vae"), 2)
    before.save_pretrained(with_vae / "vae")
    polish.train(with_vae, steps=2, scenes=1, held_out=1, layers=2, muon=muon, adversarial_from=1)
    after = AutoencoderKL.from_pretrained(with_vae / "vae")
    assert latents.encoder_fingerprint(after) == latents.encoder_fingerprint(before)
    assert not equal_weights(after.decoder.state_dict(), before.decoder.state_dict())
    written = json.loads((with_vae / "vae.json").read_text(encoding="utf-8"))
    assert "gradient_ratio" in written
    measured = measure_vae.measure_saved(with_vae / "vae", 1, 256)
    assert measured.keys() == written.keys()
    for name, value in measured.items():
        assert value == pytest.approx(written[name], rel=1e-3), name


def test_structural_similarity_equals_that_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (24, 32, 3), dtype=np.uint8) for _ in range(2))
    tensors = [to_tensor(image[None], CPU) for image in (first, (first // 2 + second // 2))]
    expected = structural_similarity(first, first // 2 + second // 2, channel_axis=2)  # type: ignore[no-untyped-call]
    assert float(losses.structural_similarity(*tensors)) == pytest.approx(expected, abs=1e-4)


def test_texture_loss_ignores_the_position_of_details_but_not_their_absence() -> None:
    sharp = torch.zeros(1, 3, 32, 32)
    sharp[..., ::4] = 1
    moved, absent = sharp.roll(1, dims=3), torch.full_like(sharp, 0.25)
    assert losses.texture_loss(moved, sharp) < 0.2 * losses.texture_loss(absent, sharp)


def test_cached_latents_are_reused_only_for_the_same_encoder(with_vae: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_latents_of_varied_scenes_are_stored_separately(with_vae: Path) -> None:
    model = AutoencoderKL.from_pretrained(with_vae / "vae")
    plain, varied = (latents.scene_latents(with_vae, model, 12, 8, varied=varied) for varied in (False, True))
    same = [sample_scene(seed) == sample_varied_scene(seed) for seed in range(12)]
    assert 0 < sum(same) < 12
    assert [torch.equal(*pair) for pair in zip(plain, varied, strict=True)] == same


def test_denoiser_training_resumes_and_its_pipeline_generates_images(
    with_vae: Path, interrupted_once: None, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        denoiser.train(with_vae, steps=3, scenes=3, channels=TINY_UNET)
    denoiser.train(with_vae, steps=3, scenes=3, channels=TINY_UNET)
    assert checkpoint(with_vae / "denoiser.pt")["step"] == 3
    model = assemble.trained_denoiser(with_vae, TINY_UNET)
    assert assemble.trained_adapter(with_vae, model) is None
    assemble.assemble(with_vae, model).save_pretrained(tmp_path / "pipeline")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    generated = [
        pipeline("a snowy mountain at dusk", height=64, width=128, num_inference_steps=2,
                 generator=torch.Generator().manual_seed(1), output_type="np").images[0]
        for _ in range(2)
    ]  # fmt: skip
    assert generated[0].shape == (64, 128, 3)
    np.testing.assert_array_equal(*generated)


def test_motion_adapter_is_trained_and_its_pipeline_generates_frames(with_vae: Path) -> None:
    denoiser.train(with_vae, steps=2, scenes=2, channels=TINY_UNET)
    motion.train(with_vae, steps=2, clips=1, channels=TINY_UNET)
    weights = MotionAdapter.from_pretrained(with_vae / "motion").state_dict()
    assert any(weights[name].any() for name in weights if name.endswith("proj_out.weight"))
    assert generated_frames(with_vae).shape == (1, 8, 64, 64, 3)


def generated_frames(folder: Path) -> Any:
    """Return frames of the pipeline with the adapter that was trained last, [1, 8, 64, 64, 3]."""
    model = assemble.trained_denoiser(folder, TINY_UNET)
    adapter = assemble.trained_adapter(folder, model)
    assert adapter is not None
    components = assemble.assemble(folder, model).components
    for unused in ("safety_checker", "requires_safety_checker"):
        components.pop(unused, None)
    pipeline = AnimateDiffPipeline(**components, motion_adapter=adapter)
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline("a city, zooming in", num_frames=8, height=64, width=64, num_inference_steps=2, output_type="np")
    return output.frames


def untrained_video_denoiser(folder: Path) -> VideoDenoiser:
    torch.manual_seed(0)
    return VideoDenoiser(joint.stored_tokenizer(folder), TINY_UNET)


def test_joint_training_resumes_and_its_pipeline_generates_frames(with_vae: Path, interrupted_once: None) -> None:
    with pytest.raises(KeyboardInterrupt):
        joint.train(with_vae, 3, 2, 2, model=untrained_video_denoiser(with_vae))
    joint.train(with_vae, 3, 2, 2, model=untrained_video_denoiser(with_vae))
    assert checkpoint(with_vae / "joint.pt")["step"] == 3
    before, after = untrained_video_denoiser(with_vae), joint.averaged_video_denoiser(with_vae, TINY_UNET)
    for part in ("unet", "text", "video_unet"):
        weights = [getattr(model, part).state_dict() for model in (before, after)]
        assert not equal_weights(*weights)
    images = zip(before.unet.named_parameters(), after.unet.parameters(), strict=True)
    changed = [name for (name, weight), trained in images if not torch.equal(weight, trained)]
    assert changed
    assert all(".attn2." in name for name in changed)
    assert generated_frames(with_vae).shape == (1, 8, 64, 64, 3)


def test_images_and_clips_are_denoised_with_the_same_weights(with_vae: Path) -> None:
    model = untrained_video_denoiser(with_vae).eval()
    images = dict(model.unet.named_parameters())
    videos = dict(model.video_unet.named_parameters())
    assert images.keys() < videos.keys()
    assert all(videos[name] is weight for name, weight in images.items())
    assert all("motion_modules" in name for name in videos.keys() - images.keys())
    noisy, timesteps = torch.randn(1, 2, 4, 8, 8), torch.tensor([500])
    with torch.no_grad():  # an untrained adapter does not change frames
        clip = model.denoise_clips(noisy, timesteps, ["a city"], np.array([3, 7]))
        image = model(noisy[:, 0], timesteps, ["a city"])
    torch.testing.assert_close(clip[:, 0], image, atol=1e-4, rtol=1e-3)


def test_tokenizer_of_a_checkpoint_is_kept_if_the_grammar_changes(
    with_vae: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = joint.stored_tokenizer(with_vae)
    monkeypatch.setattr(joint, "build_tokenizer", lambda: pytest.fail("built again"))
    assert joint.stored_tokenizer(with_vae).get_vocab() == first.get_vocab()


@pytest.mark.parametrize("prompt", [*evaluate_video.PROMPTS, "a bird's-eye view of farmland in thick fog"])
def test_published_text_encoder_returns_the_same_embeddings_with_a_larger_vocabulary(prompt: str) -> None:
    model = denoiser.Denoiser(build_tokenizer())
    published.load_published_denoiser(model)
    tokenizer = CLIPTokenizer.from_pretrained(MODEL_FOLDER / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(MODEL_FOLDER / "text_encoder").float()
    tokens = tokenizer([prompt], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        expected, embeddings = encoder(tokens).last_hidden_state, model.encode_captions([prompt])
    torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=1e-3)


def test_published_adapter_is_loaded_into_the_video_unet(tmp_path: Path) -> None:
    model = joint.published_model(joint.stored_tokenizer(tmp_path))
    expected = MotionAdapter.from_pretrained(MODEL_FOLDER / "motion_adapter").float().state_dict()
    assert equal_weights(model.adapter().state_dict(), expected)


def test_evaluation_videos_have_each_motion_equally_often() -> None:
    scenes = evaluate_video.evaluation_scenes(2 * len(MOTIONS))
    assert [scene.motion for scene in scenes] == [*MOTIONS, *MOTIONS]
    assert min(scene.seed for scene in scenes) >= HELD_OUT
    assert len({scene.seed for scene in scenes}) == len(scenes)


def test_published_pipeline_is_written_with_another_decoder_but_not_with_another_encoder(tmp_path: Path) -> None:
    published = shutil.copytree(MODEL_FOLDER, tmp_path / "published")
    finished = AutoencoderKL.from_pretrained(published / "vae")
    with torch.no_grad():
        finished.decoder.conv_out.bias += 1
    finished.save_pretrained(tmp_path / "vae")
    assemble.write_published_with_vae(tmp_path, tmp_path / "pipeline", published)
    written = AutoencoderKL.from_pretrained(tmp_path / "pipeline" / "vae")
    assert torch.equal(written.decoder.conv_out.bias, finished.decoder.conv_out.bias.half().float())
    size = (published / "vae" / WEIGHTS).stat().st_size
    assert (tmp_path / "pipeline" / "vae" / WEIGHTS).stat().st_size == size
    with torch.no_grad():
        finished.encoder.conv_out.bias += 1
    finished.save_pretrained(tmp_path / "vae")
    with pytest.raises(ValueError, match="must be that of the published VAE"):
        assemble.write_published_with_vae(tmp_path, tmp_path / "pipeline", published)


def test_stored_configurations_do_not_contain_how_components_were_loaded(tmp_path: Path) -> None:
    loaded = CLIPTokenizer.from_pretrained(MODEL_FOLDER / "tokenizer")
    loaded.save_pretrained(tmp_path / "tokenizer")
    config = tmp_path / "tokenizer" / "tokenizer_config.json"
    assert set(assemble.LOADING_KEYS) & set(json.loads(config.read_text()))
    assemble.remove_loading_keys(tmp_path)
    assert json.loads(config.read_text()) == json.loads((MODEL_FOLDER / "tokenizer" / config.name).read_text())


def test_latent_sizes_follow_the_schedule() -> None:
    assert denoiser.latent_size_at(0) == denoiser.latent_size_at(denoiser.SMALL_STEPS - 1) == 16
    assert {denoiser.latent_size_at(step) for step in range(denoiser.SMALL_STEPS, denoiser.LARGE_FROM)} == {32}
    assert {denoiser.latent_size_at(denoiser.LARGE_FROM + step) for step in range(20)} == {32, 64}


def test_classifier_learns_places_and_accuracy_counts_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "BATCH", 4)
    scenes = [sample_scene(seed) for seed in range(4)]
    classifier.train(tmp_path, steps=40, scenes=4)
    predicted = classifier.classify(classifier.load_classifier(tmp_path), scene_images(tmp_path, 4))
    assert classifier.accuracy(predicted, scenes)["place"] == 1
    assert classifier.accuracy({"place": [*predicted["place"][1:], "sea"]}, scenes)["place"] < 1


def test_confusion_counts_predictions_per_true_value() -> None:
    scenes = [Scene(place, "day", "clear", "wide", 0) for place in ("sea", "sea", "city")]
    table = evaluate.confusion(["sea", "field", "city"], scenes, "place")
    assert table["sea"] == {"mountain": 0, "sea": 1, "desert": 0, "forest": 0, "city": 0, "field": 1}
    assert table["city"]["city"] == sum(table["city"].values()) == 1


def test_detail_is_compared_with_the_reconstructions_of_the_evaluation_scenes(with_vae: Path) -> None:
    model = AutoencoderKL.from_pretrained(with_vae / "vae").eval()
    rendered = scene_images(with_vae, 2, first_seed=HELD_OUT)
    reconstructed = finish_vae.decode(model, finish_vae.encode(model, rendered))
    same = evaluate.detail(model, with_vae, reconstructed)
    assert all(values["generated"] == values["reference"] for values in same.values())
    blank = evaluate.detail(model, with_vae, np.zeros_like(rendered))["fine_detail"]
    assert blank["generated"] == 0 < blank["reference"] == same["fine_detail"]["reference"]


def test_coherence_ratio_is_low_for_motion_and_one_for_noise() -> None:
    moving = render_motion(Scene("sea", "dusk", "clear", "wide", 0, "sunset"), 8, 64, 64)
    assert evaluate_video.coherence(moving)["ratio"] < 0.6
    noise = np.random.default_rng(0).integers(0, 256, moving.shape, dtype=np.uint8)
    assert evaluate_video.coherence(noise)["ratio"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_updates_kernels_of_any_memory_layout(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(4, 4, 3)
    convolution.weight.data = convolution.weight.data.contiguous(memory_format=layout)
    before = convolution.weight.detach().clone()
    muon = optimizer.Optimizer(convolution, 1e-3, muon=True)
    convolution(torch.ones(1, 4, 8, 8)).square().sum().backward()
    muon.step(1e-3)
    assert not torch.equal(convolution.weight, before)
