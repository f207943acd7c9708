"""Loading from a directory, a hub id or a factory, and the errors for models that cannot be served."""

import json
from pathlib import Path

import pytest
import torch

from codec_pixels.device import Device
from codec_pixels.known_models import aliases_of, latent_space_of
from codec_wire.errors import CodecError, InvalidSettings, ModelLoadError
from codec_wire.maps.document import LATENT_SPACE_ID
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loader import ModelSource, load
from tests.support.tiny_sd import build_pipeline, save_model_and_map


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model name may be a path relative to the working directory, which must contain none of the names used here."""
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


def source(name: str | None, models_dir: Path, factory: str | None = None) -> ModelSource:
    return ModelSource(name, factory, models_dir)


def test_directory_in_the_models_directory_is_found_by_name(models_dir: Path, device: Device) -> None:
    model = load(source("tiny-sd", models_dir), device)
    assert (model.info.name, model.info.latent_space) == ("tiny-sd", "tiny-sd-vae")
    assert model.info.default_size == (256, 256)
    assert (model.info.latent_channels, model.info.spatial_factor) == (4, 8)
    assert model.vae_scale_factor == pytest.approx(0.18215)


def test_model_loaded_from_a_path_has_the_name_of_its_folder(models_dir: Path, device: Device) -> None:
    info = load(source(str(models_dir / "tiny-sd"), Path("nowhere")), device).info
    assert (info.name, info.latent_space) == ("tiny-sd", "tiny-sd-vae")
    assert "/" not in "".join(info.aliases)


def test_unet_without_sample_size_has_the_default_of_the_pipeline(device: Device, tmp_path: Path) -> None:
    info = load(source(None, tmp_path, f"{__name__}:make_without_size"), device).info
    assert info.default_size == (512, 512)


def make_without_size() -> object:
    pipeline = build_pipeline()
    pipeline.unet.register_to_config(sample_size=None)
    return pipeline


def test_factory_and_directory_give_the_same_weights(models_dir: Path, device: Device) -> None:
    built, loaded = build_pipeline(), load(source("tiny-sd", models_dir), device).pipeline
    for name in ("unet", "vae", "text_encoder"):
        for key, value in getattr(built, name).state_dict().items():
            torch.testing.assert_close(getattr(loaded, name).state_dict()[key], value, rtol=0, atol=0)


def test_pickled_weights_are_rejected_unless_allowed(models_dir: Path, tmp_path: Path, device: Device) -> None:
    folder = tmp_path / "pickled"
    build_pipeline().save_pretrained(folder, safe_serialization=False)
    with pytest.raises(ModelLoadError, match="pickled"):
        load(source("pickled", tmp_path), device)
    allowed = ModelSource("pickled", None, tmp_path, allow_pickle=True)
    assert load(allowed, device).info.name == "pickled"


def test_unsupported_pipeline_class_is_rejected_with_the_supported_ones(tmp_path: Path, device: Device) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "model_index.json").write_text(json.dumps({"_class_name": "AudioLDMPipeline"}))
    with pytest.raises(ModelLoadError, match="AudioLDMPipeline") as caught:
        load(source("odd", tmp_path), device)
    assert all(name in str(caught.value) for name in FAMILIES)


@pytest.mark.parametrize(
    ("name", "message"),
    [("no-such", "'no-such' is neither a directory"), ("../up", "neither a directory"), ("a/b/c", "not a hub id")],
)
def test_name_that_is_neither_directory_nor_hub_id_is_rejected(
    name: str, message: str, device: Device, tmp_path: Path
) -> None:
    with pytest.raises(ModelLoadError, match=message):
        load(source(name, tmp_path), device)


@pytest.mark.parametrize("class_name", [["diffusers", "StableDiffusionPipeline"], {"a": 1}, 3])
def test_class_name_that_is_not_a_string_is_a_clear_error(class_name: object, tmp_path: Path, device: Device) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    with pytest.raises(ModelLoadError, match=r"odd: _class_name in model_index\.json must be the name of a"):
        load(source("odd", tmp_path), device)


def test_deleted_model_names_its_mirror(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("stable-diffusion-2-1", "stable-diffusion-2-base"):
        with pytest.raises(ModelLoadError, match=f"deleted .*mirror is sd2-community/{name}$"):
            load(source(f"stabilityai/{name}", tmp_path), device)


@pytest.mark.parametrize("name", ["stable-diffusion-2", "stable-diffusion-2-1-base"])
def test_mirror_has_the_aliases_and_latent_space_of_the_deleted_model(name: str) -> None:
    mirror, deleted = f"sd2-community/{name}", f"stabilityai/{name}"
    assert aliases_of(mirror) == aliases_of(deleted)
    assert latent_space_of(mirror) == latent_space_of(deleted) == "stabilityai/sd-vae-ft-mse"


def test_unreachable_hub_gives_a_one_line_error(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match="cannot load someone/something") as caught:
        load(source("someone/something", tmp_path), device)
    assert "\n" not in str(caught.value)


def test_broken_weights_give_a_one_line_error(models_dir: Path, tmp_path: Path, device: Device) -> None:
    save_model_and_map(tmp_path, "tiny-sd-vae")
    (tmp_path / "tiny-sd" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelLoadError, match="cannot load tiny-sd") as caught:
        load(source("tiny-sd", tmp_path), device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("factory", ["nothing", "no.such:thing", "json:no_such", ":x", "x:"])
def test_factory_that_cannot_be_imported_is_an_invalid_setting(factory: str, device: Device, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="CODEC_PIPELINE"):
        load(source(None, tmp_path, factory), device)


def test_factory_may_return_a_subclass_of_a_supported_pipeline(device: Device, tmp_path: Path) -> None:
    model = load(source(None, tmp_path, f"{__name__}:make_subclass"), device)
    assert model.family.pipeline_class == "StableDiffusionPipeline"


def make_subclass() -> object:
    pipeline = build_pipeline()
    pipeline.__class__ = type("Scripted", (type(pipeline),), {})
    return pipeline


@pytest.mark.parametrize("factory", ["json:JSONDecoder", "builtins:dict"])
def test_factory_that_does_not_return_a_pipeline_is_rejected(factory: str, device: Device, tmp_path: Path) -> None:
    with pytest.raises(CodecError):
        load(source(None, tmp_path, factory), device)


def test_known_model_has_aliases_and_a_latent_space() -> None:
    assert "sd2.1" in aliases_of("stabilityai/stable-diffusion-2-1")
    assert latent_space_of("stabilityai/stable-diffusion-2-1") == "stabilityai/sd-vae-ft-mse"


@pytest.mark.parametrize("name", ["Org/My Model_v1.5", "tiny-sd", "a/..b", "UPPER", "ünïcode/x", "m:f", "..."])
def test_every_model_name_gives_a_valid_latent_space_id(name: str) -> None:
    latent_space = latent_space_of(name)
    assert LATENT_SPACE_ID.fullmatch(latent_space)
    assert ".." not in latent_space


def test_unavailable_device_is_an_invalid_setting() -> None:
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(InvalidSettings, match=name):
            Device.from_settings(name, "auto", None)


def test_device_thread_uses_the_configured_number_of_cpu_threads(device: Device) -> None:
    thread = Device(device.torch_device, "fp32", 1).new_executor()
    assert thread.submit(torch.get_num_threads).result() == 1
    thread.shutdown()
