"""Loading of only the VAE of a model, for a server that decodes and encodes but does not generate."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codec_pixels.device import Device
from core.diffusers_engine.families import Family, family_named
from core.diffusers_engine.hub import INDEX, hub_access
from core.diffusers_engine.precision import DENOISERS, with_stored_dtype
from core.diffusers_engine.separate_vae import CONFIG, SEPARATE_VAE, load_separate_vae
from core.diffusers_engine.single_file import configuration_of
from core.diffusers_engine.sources import ModelSource, locate_model
from core.diffusers_engine.unloaded import build_without_weights
from core.diffusers_engine.weight_variants import choose_variant

_VAE, _SCHEDULER = "vae", "scheduler"


def load_decoder(source: ModelSource, device: Device) -> tuple[Any, Family, Device]:
    """Return (pipeline with the VAE of `source`, family of the pipeline, device). See loader._from_files.

    The model may be a pipeline, a single file that contains a pipeline, or a VAE. The returned pipeline has the class
    of the model's pipeline. The denoisers of the returned pipeline have no weights, and the text encoders are missing.
    Only the weights of the VAE are downloaded and read. Raises ModelLoadError if the pipeline class is unknown or the
    variant of the weights does not exist. Raises HubError if the repository cannot be used. Raises the errors of
    diffusers if the VAE cannot be loaded.
    """
    location = locate_model(source)
    path = Path(location)
    if path.is_file():
        folder = configuration_of(path)
        device = with_stored_dtype(device, path)
        return *_from_folder(source, folder, device, path), device
    folder = path if path.is_dir() else _download(location)
    is_pipeline = (folder / INDEX).is_file()
    paths = (file.relative_to(folder).as_posix() for file in folder.glob("*/*" if is_pipeline else "*"))
    component = _VAE if is_pipeline else ""
    variant = choose_variant(source.label, paths, {component}, source.variant, allow_pickle=source.allow_pickle)
    device = with_stored_dtype(device, folder, variant)
    arguments = {"dtype": device.dtype, "variant": variant, "use_safetensors": not source.allow_pickle or None}
    if not is_pipeline:
        return load_separate_vae(folder, arguments), SEPARATE_VAE, device
    return *_from_folder(source, folder, device, None, arguments), device


def _from_folder(
    source: ModelSource, folder: Path, device: Device, file: Path | None, arguments: Mapping[str, Any] | None = None
) -> tuple[Any, Family]:
    """Return the pipeline with the configuration in `folder`, and the family of the pipeline.

    The weights of the VAE are in `file`, or in `folder` if `file` is not given.
    """
    import diffusers  # noqa: PLC0415 - takes seconds

    index = diffusers.DiffusionPipeline.load_config(folder)
    family = family_named(index.get("_class_name"), source.label)
    pipeline_class = getattr(diffusers, index["_class_name"])
    parts: dict[str, Any] = dict.fromkeys(name for name, part in index.items() if isinstance(part, list | tuple))
    for name, component in _component_classes(index):
        if name == _SCHEDULER:
            parts[name] = component.from_pretrained(folder / name)
        elif name in DENOISERS:
            parts[name] = build_without_weights(component, folder / name, device.torch_device)
        elif file is not None:
            parts[name] = component.from_single_file(file, config=str(folder), subfolder=_VAE, dtype=device.dtype)
        else:
            parts[name] = component.from_pretrained(folder / name, **(arguments or {}))
    accepted = inspect.signature(pipeline_class).parameters
    settings = {**index, **family.load_arguments, **parts}
    return pipeline_class(**{name: value for name, value in settings.items() if name in accepted}), family


def _component_classes(index: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the name and class of the VAE, the scheduler and each denoiser in a model_index.json."""
    for name in (_VAE, _SCHEDULER, *DENOISERS):
        library, class_name = index.get(name) or (None, None)
        if library is not None:
            yield name, getattr(importlib.import_module(library), str(class_name))


def _download(repository: str) -> Path:
    """Download the configuration and the VAE from `repository`, and return the folder with the downloaded files."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - installed with diffusers

    files = [INDEX, CONFIG, *(f"{name}/*" for name in (_VAE, _SCHEDULER)), *(f"{name}/{CONFIG}" for name in DENOISERS)]
    with hub_access(repository, "use --model with the directory of a local copy") as local_files_only:
        folder = Path(snapshot_download(repository, allow_patterns=files, local_files_only=local_files_only))
        if not (folder / INDEX).is_file():
            # Only the files in the root of the repository of a VAE are its weights.
            snapshot_download(repository, allow_patterns=["*.safetensors"], local_files_only=local_files_only)
    return folder
