"""Loading of a denoiser with quantized weights.

Either diffusers quantizes the weights, or quantized weights are read from a GGUF file.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codec_pixels.device import Device
from codec_wire.errors import InvalidSettings
from core.diffusers_engine.extra_packages import require_package
from core.diffusers_engine.model_files import replaced_denoisers
from core.diffusers_engine.precision import DENOISERS
from core.diffusers_engine.sources import ModelSource
from core.setting_field import PREFIX


def quantization_arguments(
    source: ModelSource, folder: Path, components: Mapping[str, Any], device: Device
) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` for the switches `quantization` and `gguf`.

    `folder` is the directory of the pipeline, and `components` is the content of the file model_index.json. Raises
    InvalidSettings if a package is not installed or the GGUF file is not found. Also raises InvalidSettings if the
    device or the pipeline does not support a switch.
    """
    quantization, gguf = source.switches.quantization, source.switches.gguf
    if gguf is not None:
        if quantization != "none":
            raise InvalidSettings(
                f"{PREFIX}QUANTIZATION (--quantization): cannot be combined with {PREFIX}GGUF, got "
                f"{quantization}; remove {PREFIX}QUANTIZATION, because the weights of a GGUF file are already quantized"
            )
        replaced = replaced_denoisers(source, components)
        return {name: _gguf_denoiser(source, folder / name, components[name][1], device) for name in replaced}
    if quantization == "none":
        return {}
    from diffusers import PipelineQuantizationConfig  # noqa: PLC0415 - takes seconds

    build = _torchao if quantization in TORCHAO else _bitsandbytes
    return {
        "quantization_config": PipelineQuantizationConfig(
            quant_mapping={name: build(quantization, device) for name in DENOISERS if name in components}
        )
    }


def find_gguf(source: ModelSource) -> Path:
    """Return the path of the GGUF file of `source`. Raises InvalidSettings if the file does not exist."""
    name = str(source.switches.gguf)
    for path in (Path(name), source.models_dir / name):
        if path.is_file():
            return path
    raise InvalidSettings(f"{PREFIX}GGUF (--gguf): file {name} not found, also not in {source.models_dir}")


def _gguf_denoiser(source: ModelSource, folder: Path, class_name: str, device: Device) -> Any:
    """Return the denoiser of the class `class_name` with the weights in the GGUF file that `source` names.

    `folder` contains the configuration of the denoiser.
    """
    file = find_gguf(source)
    require_package("gguf", "gguf", file.name)
    import diffusers  # noqa: PLC0415 - takes seconds

    model_class = getattr(diffusers, class_name)
    if not hasattr(model_class, "from_single_file"):
        raise InvalidSettings(
            f"{PREFIX}GGUF (--gguf): got {file.name}, but diffusers cannot load {class_name} from a single file. "
            "Remove the setting"
        )
    return model_class.from_single_file(
        str(file),
        config=str(folder),
        quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=device.dtype),
        dtype=device.dtype,
    )


def _torchao(name: str, _device: Device) -> Any:
    require_package("torchao", "quantization", name)
    from diffusers import TorchAoConfig  # noqa: PLC0415 - takes seconds
    from torchao import quantization  # noqa: PLC0415 - an extra

    return TorchAoConfig(getattr(quantization, TORCHAO[name])())


def _bitsandbytes(name: str, device: Device) -> Any:
    if device.torch_device.type == "cpu":
        raise InvalidSettings(
            f"{PREFIX}QUANTIZATION (--quantization): the value {name} selects bitsandbytes, which diffusers uses only "
            f"on a GPU. On a CPU, the allowed values are 'none', {', '.join(map(repr, TORCHAO))}"
        )
    require_package("bitsandbytes", "quantization", name)
    from diffusers import BitsAndBytesConfig  # noqa: PLC0415 - takes seconds

    return BITSANDBYTES[name](BitsAndBytesConfig, device)


TORCHAO: Mapping[str, str] = {
    "int8wo": "Int8WeightOnlyConfig",
    "int4wo": "Int4WeightOnlyConfig",
    "float8wo": "Float8WeightOnlyConfig",
}
"""Configuration classes of torchao, as a dictionary by the value of the switch `quantization`."""
BITSANDBYTES: Mapping[str, Callable[[Any, Device], Any]] = {
    "bnb_int8": lambda config, _device: config(load_in_8bit=True),
    "bnb_nf4": lambda config, device: config(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=device.dtype
    ),
}
"""Functions that build the configuration of bitsandbytes, as a dictionary by the value of the switch `quantization`.

Each function has the parameters (configuration class, device).
"""
