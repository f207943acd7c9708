"""Denoisers with quantized weights: GGUF files, torchao and bitsandbytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from codec_maps.model_map import map_from_model
from codec_pixels.device import Device
from codec_wire.errors import InvalidSettings
from core.diffusers_engine.loader import LoadedModel, ModelSource, load
from core.diffusers_engine.sampler import sample
from core.engine import Job
from core.plan import plan
from core.probe import probe_request
from core.switches import parse_switches
from tests.support.families.images import build_flux

pytestmark = pytest.mark.slow

FILE = "flux-q8.gguf"


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """A models directory with the pipeline `model`."""
    build_flux().save_pretrained(tmp_path / "model")
    return tmp_path


def load_with(models_dir: Path, device: Device, switches: str) -> LoadedModel:
    chosen = parse_switches(switches)
    return load(ModelSource("model", None, models_dir, switches=chosen, is_fast=bool(switches)), device)


def latents_of(model: LoadedModel) -> NDArray[np.float32]:
    info, mode = model.info, model.variants[0].mode
    bundle = map_from_model(info, model.vae_scale_factor, model.vae_class)
    request = probe_request(info, mode.modality, "a sea", 1, mode, size=(128, 128), steps=4)
    return sample(model, plan(request, bundle, info), Job(), lambda _done, _total: None).float().numpy()


def write_gguf(transformer: Any, path: Path) -> None:
    """Write the weights of `transformer` to a GGUF file: matrices with 8 bits per weight, everything else in fp32."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(str(path), "flux")
    for name, tensor in transformer.state_dict().items():
        values = tensor.float().numpy()
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_weights_of_a_gguf_file_replace_those_of_the_denoiser(models_dir: Path, device: Device) -> None:
    reference = load_with(models_dir, device, "")
    write_gguf(reference.pipeline.transformer, models_dir / FILE)
    (models_dir / "model" / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    model = load_with(models_dir, device, f"gguf={FILE}")
    assert model.acceleration.switches == (f"gguf={FILE}",)
    weight = model.pipeline.transformer.transformer_blocks[0].attn.to_q.weight
    assert weight.nbytes < reference.pipeline.transformer.transformer_blocks[0].attn.to_q.weight.nbytes / 3
    expected, found = latents_of(reference), latents_of(model)
    assert not np.array_equal(found, expected)
    assert np.abs(found - expected).max() < 0.1, "8 bits per weight change the latents little"


def test_motion_adapter_is_left_out_with_quantized_weights() -> None:
    assert parse_switches(f"gguf={FILE}").has_quantized_weights
    assert parse_switches("quantization=int8wo").has_quantized_weights
    assert not parse_switches("fused_qkv").has_quantized_weights


@pytest.mark.parametrize("kind", ["int8wo"])
def test_torchao_quantizes_the_denoiser(models_dir: Path, device: Device, kind: str) -> None:
    pytest.importorskip("torchao")
    model = load_with(models_dir, device, f"quantization={kind}")
    assert model.acceleration.switches == (f"quantization={kind}",)
    expected, found = latents_of(load_with(models_dir, device, "")), latents_of(model)
    assert not np.array_equal(found, expected)
    assert np.abs(found - expected).max() < 0.5


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ("gguf=none.gguf", r"CODEC_GGUF \(--gguf\): file none.gguf not found, also not in "),
        (f"gguf={FILE}+quantization=int8wo", r"CODEC_QUANTIZATION.*cannot be combined with CODEC_GGUF.*got int8wo"),
        (
            "quantization=bnb_nf4",
            "the value bnb_nf4 selects .* only on a GPU. On a CPU, the allowed values are 'none', 'int8wo'",
        ),
        ("quantization=bnb_int8", "the value bnb_int8 selects bitsandbytes.* only on a GPU"),
    ],
)
def test_quantization_that_is_not_possible_is_refused(
    models_dir: Path, device: Device, switches: str, message: str
) -> None:
    with pytest.raises(InvalidSettings, match=message):
        load_with(models_dir, device, switches)


def test_switch_whose_package_is_not_installed_is_refused(
    models_dir: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(
        InvalidSettings, match=r"CODEC_STEP_CACHE \(--step-cache\): .* requires cache_dit.*extra `speed`"
    ):
        load_with(models_dir, device, "step_cache=cache_dit")
    (models_dir / FILE).touch()
    with pytest.raises(InvalidSettings, match=r"CODEC_GGUF \(--gguf\): .* requires gguf, which is not installed"):
        load_with(models_dir, device, f"gguf={FILE}")
