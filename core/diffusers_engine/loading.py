"""Gets a diffusers pipeline from a hub id, a local directory or a factory."""

import importlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.diffusers_engine.device import Device
from core.diffusers_engine.families import Family, family_named, family_of
from core.diffusers_engine.known_models import aliases_of, latent_space_of
from core.diffusers_engine.pixels import VAES
from core.diffusers_engine.quiet import quiet_libraries
from core.errors import CodecError, InvalidSettings, ModelLoadError
from core.model import ModelInfo

log = logging.getLogger(__name__)

SAMPLE_SIZE = 64
"""Side of the latent of a model that names none: that of SD 1, for which 512x512 is the published default."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A pipeline on its device, its family's row, and what clients may know of it."""

    pipeline: Any
    family: Family
    info: ModelInfo
    vae_scale_factor: float
    vae_class: str


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from: `name` is a hub id or a directory, `factory` a module:function; one may be None.

    `models_dir` is looked into for a directory of that name; `latent_space` overrides the id the model would get.
    """

    name: str | None
    factory: str | None
    models_dir: Path
    latent_space: str | None = None
    allow_pickle: bool = False


def load(source: ModelSource, device: Device) -> LoadedModel:
    """Return the pipeline of `source` on `device`.

    Raises ModelLoadError saying which model and why: not found, no network, unsafe weights only, a class without a
    row in the family table, parts that do not fit each other.
    """
    quiet_libraries()
    what = source.name or source.factory or ""
    try:
        if source.factory is not None:
            pipeline = _from_factory(source.factory)
            family = family_of(pipeline, what)
        else:
            pipeline, family = _from_pretrained(source, device)
        pipeline.to(device.torch_device, device.dtype)
        pipeline.set_progress_bar_config(disable=True)
        return LoadedModel(
            pipeline=pipeline,
            family=family,
            info=_describe(pipeline, family, source),
            vae_scale_factor=float(pipeline.vae.config.scaling_factor),
            vae_class=type(pipeline.vae).__name__,
        )
    except CodecError:
        raise
    except Exception as error:
        log.debug("loading failed", exc_info=error)
        raise ModelLoadError(f"cannot load {what}: {_first_line(error)}") from error


def _from_pretrained(source: ModelSource, device: Device) -> tuple[Any, Family]:
    from diffusers import DiffusionPipeline  # noqa: PLC0415 - takes seconds, and the servers answer meanwhile

    place = _place_of(source)
    class_name = DiffusionPipeline.load_config(place).get("_class_name")
    family = family_named(class_name, str(source.name))
    pipeline = DiffusionPipeline.from_pretrained(
        place, dtype=device.dtype, use_safetensors=not source.allow_pickle or None, **family.load_arguments
    )
    return pipeline, family


def _place_of(source: ModelSource) -> str:
    name = str(source.name)
    for directory in (Path(name), source.models_dir / name):
        if directory.is_dir():
            return str(directory)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelLoadError(f"there is no directory {name!r}, here or below {source.models_dir}, and it is no hub id")
    return name


def _from_factory(factory: str) -> Any:
    module_name, _, function_name = factory.partition(":")
    if not module_name or not function_name:
        raise InvalidSettings(f"the pipeline factory must be module:function, got {factory!r}")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise InvalidSettings(f"the pipeline factory {factory} cannot be imported: {error}") from None
    return function()


def _describe(pipeline: Any, family: Family, source: ModelSource) -> ModelInfo:
    name = source.name or str(source.factory)
    if source.name is not None and Path(source.name).is_dir():
        name = Path(source.name).resolve().name
    channels, factor = int(pipeline.vae.config.latent_channels), int(pipeline.vae_scale_factor)
    if pipeline.unet.config.in_channels != channels:
        raise ModelLoadError(
            f"{name}: its UNet takes {pipeline.unet.config.in_channels} channels and its VAE makes {channels}; "
            "a model that needs more than a prompt cannot be served as text-to-image"
        )
    own = pipeline.unet.config.sample_size or getattr(pipeline, "default_sample_size", SAMPLE_SIZE)
    height, width = (own, own) if isinstance(own, int) else own
    return ModelInfo(
        name=name,
        aliases=aliases_of(name),
        latent_space=source.latent_space or latent_space_of(name),
        latent_channels=channels,
        spatial_factor=factor,
        size_multiple=factor,
        default_size=(width * factor, height * factor),
        modalities=(family.modality,),
        renders=type(pipeline.vae).__name__ in VAES,
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
