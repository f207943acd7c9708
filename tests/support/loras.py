"""LoRA files with random weights for the small pipelines, and models that load them for requests."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from codec_pixels.device import Device
from core.diffusers_engine.loader import LoadedModel, ModelSource, load
from core.diffusers_engine.loras import LoraSource
from core.lora_directory import LoraDirectory
from core.switches import Switches
from tests.support.serving import LATENT_SPACE
from tests.support.tiny_sd import build_pipeline

TINY_SD = "tests.support.tiny_sd:build_pipeline"
UNET: Mapping[str, Sequence[str]] = {"unet": ("to_q", "to_v")}
UNET_AND_TEXT: Mapping[str, Sequence[str]] = {"unet": ("to_k", "conv1"), "text_encoder": ("q_proj", "v_proj")}


def write_lora(
    folder: Path,
    name: str,
    *,
    seed: int,
    build: Callable[[], Any] = build_pipeline,
    targets: Mapping[str, Sequence[str]] = UNET,
    rank: int = 2,
) -> Path:
    """Write the file `name`.safetensors with LoRA weights for the pipeline of `build`; return its path.

    `targets` contains the names of the layers that get LoRA weights, by component.
    """
    pipeline = build()
    torch.manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for component, layers in targets.items():
        module = getattr(pipeline, component)
        module.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers), init_lora_weights=False))
        found = get_peft_model_state_dict(module)
        weights |= {f"{component}.{key}": value.contiguous() for key, value in found.items()}
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.safetensors"
    save_file(weights, file)
    return file


def load_with_loras(
    folder: Path,
    device: Device,
    factory: str = TINY_SD,
    *,
    max_bytes: int = 2**30,
    loras: tuple[LoraSource, ...] = (),
    allow_partial: bool = False,
    switches: Switches | None = None,
    motion_adapter: Path | None = None,
) -> LoadedModel:
    """Return the pipeline of `factory`, for which requests may name the LoRA files in `folder`.

    `max_bytes` limits the size of the LoRA weights of requests. `loras` are merged into the weights of the model.
    """
    source = ModelSource(
        None,
        factory,
        Path("nowhere"),
        LATENT_SPACE,
        loras=loras,
        allow_partial_loras=allow_partial,
        motion_adapter=motion_adapter,
        lora_directory=LoraDirectory(folder, max_bytes),
        switches=switches or Switches(),
        is_fast=switches is not None,
    )
    return load(source, device)
