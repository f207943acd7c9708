"""Gets a diffusers pipeline from a hub id, a local directory or a factory."""

import importlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codec_pixels.device import Device
from codec_pixels.known_models import aliases_of, latent_space_of
from codec_pixels.library_logging import silence_libraries
from codec_pixels.vae import VAE_DECODERS
from codec_wire.errors import CodecError, InvalidSettings, ModelLoadError
from core.diffusers_engine.families import Family, family_named, family_of
from core.diffusers_engine.loras import apply_loras
from core.diffusers_engine.sources import ModelSource, locate_model
from core.diffusers_engine.variants import Route, motion_variant, variants_of
from core.model import ModelInfo
from core.plan import StreamPlan

__all__ = ["LoadedModel", "ModelSource", "load"]

log = logging.getLogger(__name__)

MOTION_ADAPTER = "motion_adapter"
"""Folder of a model directory that holds a MotionAdapter: with it, the same parts make videos."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A pipeline on its device, the ways to call it and its parts, and what clients may know of it."""

    routes: tuple[Route, ...]
    info: ModelInfo
    vae_scale_factor: float
    vae_class: str

    @property
    def pipeline(self) -> Any:
        """The pipeline that was loaded."""
        return self.routes[0].pipeline

    @property
    def family(self) -> Family:
        """The row of the pipeline that was loaded."""
        return self.routes[0].family

    def route(self, plan: StreamPlan) -> Route:
        """Return the way to call for `plan`, which was made for this model and so has one."""
        return next(
            route
            for route in self.routes
            if (route.form.modality, route.form.image, route.form.control_image) == plan.form
        )


def load(source: ModelSource, device: Device) -> LoadedModel:
    """Return the pipeline of `source` on `device`.

    Raises ModelLoadError saying which model and why: not found, no network, unsafe weights only, a class without a
    row in the family table, parts that do not fit each other.
    """
    silence_libraries()
    what = source.what
    try:
        if source.factory is not None:
            pipeline = _from_factory(source.factory)
            family = family_of(pipeline, what)
        else:
            pipeline, family = _from_pretrained(source, device)
        apply_loras(pipeline, source.loras, allow_pickle=source.allow_pickle)
        # Before the other ways are made of it: what is moved afterwards is no longer shared.
        pipeline.to(device.torch_device, device.dtype)
        routes = tuple(_routes(pipeline, family, source))
        for route in routes:
            route.pipeline.to(device.torch_device, device.dtype)
            route.pipeline.set_progress_bar_config(disable=True)
        return LoadedModel(
            routes=routes,
            info=_describe(routes, source),
            # Where a VAE has none, its latents travel as they are, and its own mean and deviation are undone instead.
            vae_scale_factor=float(getattr(pipeline.vae.config, "scaling_factor", None) or 1.0),
            vae_class=type(pipeline.vae).__name__,
        )
    except CodecError:
        raise
    except Exception as error:
        log.debug("loading failed", exc_info=error)
        raise ModelLoadError(f"cannot load {what}: {_first_line(error)}") from error


def _from_pretrained(source: ModelSource, device: Device) -> tuple[Any, Family]:
    from diffusers import DiffusionPipeline  # noqa: PLC0415 - takes seconds, and the servers answer meanwhile

    place = locate_model(source)
    index = DiffusionPipeline.load_config(place)
    family = family_named(index.get("_class_name"), str(source.name))
    # What was saved without a part, as Stable Diffusion 3 may be without its T5, loads only when told so.
    absent = {name: None for name, part in index.items() if isinstance(part, list | tuple) and set(part) == {None}}
    pipeline = DiffusionPipeline.from_pretrained(
        place,
        dtype=device.dtype,
        use_safetensors=not source.allow_pickle or None,
        **absent | dict(family.load_arguments),
    )
    return pipeline, family


def _routes(pipeline: Any, family: Family, source: ModelSource) -> Iterator[Route]:
    yield from variants_of(pipeline, family)
    folder = source.motion_adapter
    if folder is None and source.factory is None:
        folder = Path(locate_model(source)) / MOTION_ADAPTER
    if folder is not None and folder.is_dir() and not hasattr(pipeline, MOTION_ADAPTER):
        from diffusers import MotionAdapter  # noqa: PLC0415 - takes seconds

        adapter = MotionAdapter.from_pretrained(
            folder, dtype=pipeline.unet.dtype, use_safetensors=not source.allow_pickle or None
        )
        yield motion_variant(pipeline, adapter)


def _from_factory(factory: str) -> Any:
    module_name, _, function_name = factory.partition(":")
    if not module_name or not function_name:
        raise InvalidSettings(f"the pipeline factory must be module:function, got {factory!r}")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise InvalidSettings(f"the pipeline factory {factory} cannot be imported: {error}") from None
    return function()


def _describe(routes: tuple[Route, ...], source: ModelSource) -> ModelInfo:
    name = source.name or str(source.factory)
    if source.name is not None and Path(source.name).is_dir():
        name = Path(source.name).resolve().name
    pipeline, geometry = routes[0].pipeline, routes[0].family.geometry
    channels, factor = geometry.channels(pipeline), geometry.spatial(pipeline)
    unet = getattr(pipeline, "unet", None)
    if unet is not None and not routes[0].form.image and unet.config.in_channels != channels:
        raise ModelLoadError(
            f"{name}: its UNet takes {unet.config.in_channels} channels and its VAE makes {channels}; "
            "a model that needs more than a prompt cannot be served as text-to-image"
        )
    temporal = geometry.temporal(pipeline)
    return ModelInfo(
        name=name,
        aliases=aliases_of(name),
        latent_space=source.latent_space or latent_space_of(name),
        latent_channels=channels,
        spatial_factor=factor,
        size_multiple=factor * geometry.patch(pipeline),
        default_size=geometry.default_size(pipeline),
        modalities=tuple(dict.fromkeys(route.form.modality for route in routes)),
        renders=type(pipeline.vae).__name__ in VAE_DECODERS,
        temporal_factor=temporal,
        frame_multiple=temporal * geometry.group,
        forms=tuple(route.form for route in routes),
        loras=tuple(lora.told for lora in source.loras),
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
