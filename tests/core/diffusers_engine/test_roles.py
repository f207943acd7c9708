"""Components that the roles load: a decoder only the VAE, a generator everything but the weights of the VAE."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_pixels.device import Device
from codec_pixels.vae import decode_latents
from codec_wire.errors import InvalidSettings, ModelLoadError
from codec_wire.latents import Modality
from core.diffusers_engine.loader import LoadedModel, load
from core.diffusers_engine.sources import ModelSource, model_sources
from core.role import Role
from core.settings import Settings
from tests.support.families.images import build_sd3
from tests.support.families.videos import build_svd, build_wan
from tests.support.tiny_sd import build_pipeline

BUILDERS = {"sd": build_pipeline, "sd3": build_sd3, "svd": build_svd, "wan": build_wan}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, build in BUILDERS.items():
        build().save_pretrained(folder / name)
    return folder


def load_as(role: Role, name: str, models_dir: Path, device: Device) -> LoadedModel:
    return load(ModelSource(name, None, models_dir, role=role), device)


def memory_of(component: Any) -> int:
    """Return the bytes of the parameters of a component that are in memory."""
    return sum(weights.untyped_storage().nbytes() for weights in component.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_decoder_has_the_pixels_and_sizes_of_the_complete_model(name: str, models_dir: Path, device: Device) -> None:
    complete, decoder = (load_as(role, name, models_dir, device) for role in (Role.ALL, Role.DECODER))
    latents = np.random.default_rng(0).normal(size=(1, complete.info.latent_channels, 4, 4)).astype(np.float32)
    pixels = [decode_latents(one.pipeline.vae, latents, one.family.pipeline_class) for one in (complete, decoder)]
    assert np.array_equal(pixels[0], pixels[1])
    for field in ("latent_space", "spatial_factor", "size_multiple", "default_size", "temporal_factor"):
        assert getattr(complete.info, field) == getattr(decoder.info, field)
    components = decoder.pipeline.components
    assert not [part for part in components if part.startswith(("text_encoder", "image_encoder")) and components[part]]
    denoiser = components.get("unet") or components["transformer"]
    assert memory_of(denoiser) == 4 * len(list(denoiser.parameters()))


def test_decoder_loads_without_the_files_of_the_denoiser(device: Device, tmp_path: Path) -> None:
    build_pipeline().save_pretrained(tmp_path / "model")
    for path in (*tmp_path.glob("model/unet/*.safetensors"), *tmp_path.glob("model/text_encoder/*")):
        path.unlink()
    assert load_as(Role.DECODER, "model", tmp_path, device).info.default_size == (256, 256)


def test_decoder_loads_a_vae_without_a_pipeline(models_dir: Path, device: Device) -> None:
    complete, decoder = (
        load_as(role, f"sd{part}", models_dir, device) for role, part in ((Role.ALL, ""), (Role.DECODER, "/vae"))
    )
    latents = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype(np.float32)
    pixels = [decode_latents(one.pipeline.vae, latents, one.family.pipeline_class) for one in (complete, decoder)]
    assert np.array_equal(pixels[0], pixels[1])
    assert (decoder.info.spatial_factor, decoder.info.size_multiple, decoder.info.latent_channels) == (8, 8, 4)
    assert decoder.info.modalities == (Modality.IMAGE,)


def test_vae_of_videos_without_its_pipeline_is_refused(models_dir: Path, device: Device) -> None:
    with pytest.raises(
        ModelLoadError, match="AutoencoderKLWan; a VAE that is stored without a pipeline must be of the class"
    ):
        load_as(Role.DECODER, "wan/vae", models_dir, device)


def test_repository_without_a_pipeline_is_downloaded_as_a_vae(
    models_dir: Path, device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    downloads = []

    def snapshot(repository: str, *, allow_patterns: list[str], **_: Any) -> str:
        assert repository == "stabilityai/sd-vae-ft-mse"
        downloads.append(allow_patterns)
        return str(models_dir / "sd" / "vae")

    monkeypatch.setattr("core.diffusers_engine.hub._unavailable", lambda: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    model = load_as(Role.DECODER, "stabilityai/sd-vae-ft-mse", tmp_path, device)
    assert "unet/config.json" in downloads[0]
    assert downloads[1:] == [["*.safetensors"]]
    assert (model.info.name, model.info.latent_space) == ("stabilityai/sd-vae-ft-mse", "stabilityai/sd-vae-ft-mse")


def test_generator_keeps_no_weights_of_the_vae(models_dir: Path, device: Device) -> None:
    model = load_as(Role.GENERATOR, "sd", models_dir, device)
    vae = model.pipeline.vae
    assert memory_of(vae) == 4 * len(list(vae.parameters()))
    assert not model.info.renders
    assert [(mode.image, mode.latents_only) for mode in model.info.modes] == [(False, False), (True, True)]


def test_model_that_encodes_an_image_cannot_generate_without_its_vae(models_dir: Path, device: Device) -> None:
    with pytest.raises(ModelLoadError, match="svd encodes an input image with its VAE"):
        load_as(Role.GENERATOR, "svd", models_dir, device)


def test_decoder_ignores_loras_and_refuses_a_factory(models_dir: Path) -> None:
    settings = Settings(models_dir=models_dir, model="sd", loras="missing:1")
    assert model_sources(settings, Role.DECODER)[0].loras == ()
    with pytest.raises(InvalidSettings, match="CODEC_ROLE=decoder"):
        model_sources(Settings(pipeline="module:function"), Role.DECODER)


def test_decoder_of_a_pipeline_with_unknown_class_is_refused(device: Device, tmp_path: Path) -> None:
    build_pipeline().save_pretrained(tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_bytes()) | {"_class_name": "UnknownPipeline"}))
    with pytest.raises(ModelLoadError, match="UnknownPipeline; supported classes: "):
        load_as(Role.DECODER, "model", tmp_path, device)


def test_directory_of_lora_files_must_exist_before_a_model_is_loaded(tmp_path: Path) -> None:
    settings = Settings(lora_dir=tmp_path / "missing")
    with pytest.raises(InvalidSettings, match=r"^CODEC_LORA_DIR \(--lora-dir\): must be an existing directory, got "):
        model_sources(settings)
    assert model_sources(settings, Role.DECODER)
