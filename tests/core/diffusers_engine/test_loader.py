"""Models come from a directory, a hub id or a factory; whatever cannot be served is refused with the reason."""

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


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_model_and_map(folder, "tiny-sd-vae")
    return folder


def source(name: str | None, models_dir: Path, factory: str | None = None) -> ModelSource:
    return ModelSource(name, factory, models_dir)


def test_a_directory_below_the_models_directory_is_found_by_name(models_dir: Path, device: Device) -> None:
    model = load(source("tiny-sd", models_dir), device)
    assert (model.info.name, model.info.latent_space) == ("tiny-sd", "tiny-sd-vae")
    assert model.info.default_size == (256, 256)
    assert (model.info.latent_channels, model.info.spatial_factor) == (4, 8)
    assert model.vae_scale_factor == pytest.approx(0.18215)


def test_a_path_is_a_name_too_and_is_not_shown_to_clients(models_dir: Path, device: Device) -> None:
    info = load(source(str(models_dir / "tiny-sd"), Path("nowhere")), device).info
    assert (info.name, info.latent_space) == ("tiny-sd", "tiny-sd-vae")
    assert "/" not in "".join(info.aliases)


def test_a_unet_that_names_no_size_has_its_pipelines(device: Device, tmp_path: Path) -> None:
    info = load(source(None, tmp_path, f"{__name__}:make_without_size"), device).info
    assert info.default_size == (512, 512)


def make_without_size() -> object:
    pipeline = build_pipeline()
    pipeline.unet.register_to_config(sample_size=None)
    return pipeline


def test_the_same_weights_come_from_the_factory_and_from_disk(models_dir: Path, device: Device) -> None:
    built, loaded = build_pipeline(), load(source("tiny-sd", models_dir), device).pipeline
    for name in ("unet", "vae", "text_encoder"):
        for key, value in getattr(built, name).state_dict().items():
            torch.testing.assert_close(getattr(loaded, name).state_dict()[key], value, rtol=0, atol=0)


def test_weights_that_can_run_code_are_refused_unless_allowed(models_dir: Path, tmp_path: Path, device: Device) -> None:
    folder = tmp_path / "pickled"
    build_pipeline().save_pretrained(folder, safe_serialization=False)
    with pytest.raises(ModelLoadError, match="pickled"):
        load(source("pickled", tmp_path), device)
    allowed = ModelSource("pickled", None, tmp_path, allow_pickle=True)
    assert load(allowed, device).info.name == "pickled"


def test_a_class_without_a_row_is_refused_with_the_list_of_those_with_one(tmp_path: Path, device: Device) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "model_index.json").write_text(json.dumps({"_class_name": "AudioLDMPipeline"}))
    with pytest.raises(ModelLoadError, match="AudioLDMPipeline") as caught:
        load(source("odd", tmp_path), device)
    assert all(name in str(caught.value) for name in FAMILIES)


@pytest.mark.parametrize(
    ("name", "what"), [("no-such", "no directory 'no-such'"), ("../up", "no directory"), ("a/b/c", "no hub id")]
)
def test_a_name_that_is_nothing_is_refused(name: str, what: str, device: Device, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=what):
        load(source(name, tmp_path), device)


def test_a_hub_that_cannot_be_reached_is_one_line(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelLoadError, match="cannot load someone/something") as caught:
        load(source("someone/something", tmp_path), device)
    assert "\n" not in str(caught.value)


def test_a_broken_directory_is_one_line(models_dir: Path, tmp_path: Path, device: Device) -> None:
    save_model_and_map(tmp_path, "tiny-sd-vae")
    (tmp_path / "tiny-sd" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelLoadError, match="cannot load tiny-sd") as caught:
        load(source("tiny-sd", tmp_path), device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("factory", ["nothing", "no.such:thing", "json:no_such", ":x", "x:"])
def test_a_factory_that_is_none_is_a_wrong_setting(factory: str, device: Device, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="factory"):
        load(source(None, tmp_path, factory), device)


def test_a_factory_may_return_a_subclass(device: Device, tmp_path: Path) -> None:
    model = load(source(None, tmp_path, f"{__name__}:make_subclass"), device)
    assert model.family.pipeline_class == "StableDiffusionPipeline"


def make_subclass() -> object:
    pipeline = build_pipeline()
    pipeline.__class__ = type("Scripted", (type(pipeline),), {})
    return pipeline


@pytest.mark.parametrize("factory", ["json:JSONDecoder", "builtins:dict"])
def test_what_a_factory_returns_must_be_a_pipeline(factory: str, device: Device, tmp_path: Path) -> None:
    with pytest.raises(CodecError):
        load(source(None, tmp_path, factory), device)


def test_the_seeds_short_name_and_latent_space_are_known() -> None:
    assert "sd2.1" in aliases_of("stabilityai/stable-diffusion-2-1")
    assert latent_space_of("stabilityai/stable-diffusion-2-1") == "stabilityai/sd-vae-ft-mse"


@pytest.mark.parametrize("name", ["Org/My Model_v1.5", "tiny-sd", "a/..b", "UPPER", "ünïcode/x", "m:f", "..."])
def test_every_name_gives_a_latent_space_id(name: str) -> None:
    latent_space = latent_space_of(name)
    assert LATENT_SPACE_ID.fullmatch(latent_space)
    assert ".." not in latent_space


def test_a_device_that_is_not_there_is_a_wrong_setting() -> None:
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(InvalidSettings, match=name):
            Device.from_settings(name, "auto", None)


def test_threads_are_those_of_the_setting(device: Device) -> None:
    thread = Device(device.torch_device, "fp32", 1).new_executor()
    assert thread.submit(torch.get_num_threads).result() == 1
    thread.shutdown()
