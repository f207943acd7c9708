"""Loading of a diffusers pipeline from a hub id, a local directory, a single file or a factory function."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codec_pixels.device import Device
from codec_pixels.known_models import aliases_of, latent_space_of
from codec_pixels.library_logging import silence_libraries
from codec_pixels.vae import VAE_DECODERS, vae_class_of
from codec_wire.errors import CodecError, InvalidRequest, InvalidSettings, ModelLoadError
from core.acceleration import Acceleration
from core.diffusers_engine.decoder_pipeline import load_decoder
from core.diffusers_engine.families import Family, family_of
from core.diffusers_engine.fast_switches import (
    apply_to_denoisers,
    denoisers_of,
    place,
    supported_switches,
)
from core.diffusers_engine.load_errors import load_failure
from core.diffusers_engine.lora_support import no_loras_reason
from core.diffusers_engine.loras import apply_loras
from core.diffusers_engine.model_files import fetch_model
from core.diffusers_engine.precision import dtype_name_of, with_stored_dtype
from core.diffusers_engine.prompt_cache import PromptCache
from core.diffusers_engine.quantization import quantization_arguments
from core.diffusers_engine.request_loras import RequestLoras
from core.diffusers_engine.schedule import scheduler_checks, step_check
from core.diffusers_engine.single_file import load_single_file
from core.diffusers_engine.sources import ModelSource, locate_model
from core.diffusers_engine.step_cache import StepCache
from core.diffusers_engine.unloaded import discard_weights
from core.diffusers_engine.variants import PipelineVariant, motion_variant, variants_of
from core.diffusers_engine.weight_variants import choose_variant
from core.diffusers_engine.weighted_prompts import prompt_syntaxes
from core.guidance_interval import ALL_STEPS, GuidanceInterval
from core.model import ModelInfo, RequestLimits
from core.plan import StreamPlan
from core.role import Role
from core.switches import Mode, Switches

__all__ = ["LoadedModel", "ModelSource", "load"]

log = logging.getLogger(__name__)

MOTION_ADAPTER = "motion_adapter"
"""Name of the subfolder of a model directory that may contain a MotionAdapter.

An image model with a MotionAdapter can also generate videos.
"""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The pipelines of a model on a device, and the description of the model for clients."""

    variants: tuple[PipelineVariant, ...]
    info: ModelInfo
    vae_scale_factor: float
    vae_class: str
    device: Device
    """The torch device and dtype of the pipelines."""
    prompts: PromptCache = field(default_factory=PromptCache)
    """The cache of prompt embeddings that all pipelines of the model share."""
    request_loras: RequestLoras | None = None
    """The LoRA weights of requests, or None if requests must not contain LoRA weights."""
    switches: Switches = field(default_factory=Switches)
    """The switches of fast mode that are on."""
    is_fast: bool = False
    """Whether the model runs in fast mode. In fast mode, pixels may differ from the pixels in reference mode."""

    @property
    def pipeline(self) -> Any:
        """The pipeline that was loaded first.

        The other pipelines of the model are built from the components of this pipeline.
        """
        return self.variants[0].pipeline

    @property
    def family(self) -> Family:
        """The family of the pipeline that was loaded first."""
        return self.variants[0].family

    @property
    def denoisers(self) -> list[Any]:
        """The UNets and transformers of the pipeline that was loaded first."""
        return denoisers_of(self.pipeline)

    @property
    def acceleration(self) -> Acceleration:
        """The mode and the switches of the model, without the measured effect of the switches on images."""
        return Acceleration(Mode.FAST, self.switches.names) if self.is_fast else Acceleration()

    def applied_loras(self, plan: StreamPlan) -> AbstractContextManager[None]:
        """Return a context manager that applies the LoRA weights of `plan`.

        Use the context manager only on the device thread. See RequestLoras.applied.
        """
        if not plan.loras:
            return nullcontext()
        if self.request_loras is None:
            raise InvalidRequest("loras", f"is not supported by {plan.model}")
        return self.request_loras.applied(self.variant_for(plan).pipeline, plan.loras)

    def variant_for(self, plan: StreamPlan) -> PipelineVariant:
        """Return the pipeline for the modality and the kinds of input of `plan`.

        `plan` must be a plan for this model.
        """
        if len(self.variants) == 1:
            return self.variants[0]
        wanted = (plan.modality, plan.inputs)
        modes = ((variant, variant.family.mode) for variant in self.variants)
        return next(variant for variant, mode in modes if (mode.modality, mode.inputs) == wanted)


def load(source: ModelSource, device: Device) -> LoadedModel:
    """Return the pipelines of `source` on `device`.

    `from_pretrained` sets the dtype of every module. Modules are not cast after loading, because some modules must stay
    in fp32. If a factory returns the pipeline, the dtypes, devices and offload hooks of the pipeline are not changed.

    Raises ModelLoadError if the model cannot be loaded. The ModelLoadError contains the name of the model and the
    reason. Loading fails if the model is not found, the network is not available, or all weights are in unsafe formats.
    Loading also fails if the variant does not exist, the pipeline class is not in the family table, or the components
    do not match each other.
    """
    silence_libraries()
    try:
        if source.factory is not None:
            pipeline = _from_factory(source.factory)
            family = family_of(pipeline, source.label)
            device = _device_of(pipeline, device)
        elif source.role is Role.DECODER:
            pipeline, family, device = load_decoder(source, device)
        else:
            pipeline, family, device = _from_files(source, device)
        if family.is_inferred and source.role is not Role.ALL:
            raise ModelLoadError(
                f"{source.label} has the pipeline class {family.pipeline_class}, which has no row in the family table. "
                "The server can only check the pixels of such a class if it loads the denoiser and the VAE: set "
                "CODEC_ROLE=all (--role all)"
            )
        apply_loras(pipeline, source.loras, allow_pickle=source.allow_pickle, allow_partial=source.allow_partial_loras)
        if source.role is Role.GENERATOR:
            discard_weights(pipeline.vae, device.torch_device)
        switches = supported_switches(source, pipeline, family, device)
        if source.factory is None:
            place(pipeline, switches, device)
        variants = tuple(_accelerated(_variants(pipeline, family, source), switches))
        prompts = PromptCache()
        for one in {id(variant.pipeline): variant.pipeline for variant in variants}.values():
            one.set_progress_bar_config(disable=True)
            prompts.attach(one)
        no_loras = no_loras_reason(source, variants, switches)
        loras = None
        if no_loras is None and source.lora_directory is not None:
            loras = RequestLoras(source.lora_directory, prompts, allow_partial=source.allow_partial_loras)
        return LoadedModel(
            variants=variants,
            info=_describe(variants, source, no_loras),
            # A VAE without a scaling factor has latents_mean and latents_std, which decoding applies instead.
            vae_scale_factor=float(getattr(pipeline.vae.config, "scaling_factor", None) or 1.0),
            vae_class=vae_class_of(pipeline.vae),
            device=device,
            prompts=prompts,
            request_loras=loras,
            switches=switches,
            is_fast=source.is_fast,
        )
    except CodecError:
        raise
    except Exception as error:
        log.debug("loading a model failed", exc_info=error)
        raise ModelLoadError(load_failure(source.label, error)) from error


def _from_files(source: ModelSource, device: Device) -> tuple[Any, Family, Device]:
    """Return (pipeline of `source`, family of the pipeline, device).

    The returned device is a copy of `device`. If the dtype of `device` is AUTO, the dtype of the copy depends on the
    stored dtype of the weights.
    """
    path = Path(locate_model(source))
    if path.is_file():
        device = with_stored_dtype(device, path)
        return *load_single_file(source, path, device.dtype), device
    from diffusers import DiffusionPipeline  # noqa: PLC0415 - takes seconds, during which the servers already respond

    files = fetch_model(source)
    device = with_stored_dtype(device, files.folder, files.variant)
    components = DiffusionPipeline.load_config(files.folder)
    pipeline = DiffusionPipeline.from_pretrained(
        files.folder,
        variant=files.variant,
        dtype=device.dtype,
        use_safetensors=not source.allow_pickle or None,
        **files.arguments,
        **files.family.load_components(files.folder),
        **quantization_arguments(source, files.folder, components, device),
    )
    return pipeline, files.family, device


def _device_of(pipeline: Any, device: Device) -> Device:
    """Return a copy of `device` with the torch device and dtype of a pipeline that a factory has returned."""
    return replace(device, torch_device=pipeline._execution_device, dtype_name=dtype_name_of(pipeline))


def _variants(pipeline: Any, family: Family, source: ModelSource) -> Iterator[PipelineVariant]:
    """Yield the pipelines of the model that the server can use in its role `source.role`."""
    if source.role is Role.DECODER:
        yield PipelineVariant(pipeline, family)
        return
    found = _all_variants(pipeline, family, source)
    if source.role is Role.ALL:
        yield from found
        return
    without_vae = [replace(variant, encodes=False) for variant in found]
    remaining = [variant for variant in without_vae if variant.mode.latents or not variant.mode.image]
    if not remaining:
        raise ModelLoadError(
            f"{source.label} encodes an input image with its VAE, so it cannot generate without the VAE; "
            "remove --no-vae, and unset CODEC_ROLE if it is set to 'generator'"
        )
    yield from remaining


def _all_variants(pipeline: Any, family: Family, source: ModelSource) -> Iterator[PipelineVariant]:
    yield from variants_of(pipeline, family)
    folder = source.motion_adapter
    if folder is None and source.factory is None:
        folder = Path(locate_model(source)) / MOTION_ADAPTER
    if folder is not None and folder.is_dir() and not hasattr(pipeline, MOTION_ADAPTER):
        if source.switches.has_quantized_weights:
            log.warning(
                "%s cannot generate videos, because a motion adapter cannot use quantized weights", source.label
            )
            return
        from diffusers import MotionAdapter  # noqa: PLC0415 - takes seconds

        adapter = MotionAdapter.from_pretrained(
            folder,
            variant=_only_variant(folder, allow_pickle=source.allow_pickle),
            dtype=pipeline.unet.dtype,
            use_safetensors=not source.allow_pickle or None,
        )
        yield motion_variant(pipeline, adapter.to(pipeline.unet.device))


def _accelerated(variants: Iterator[PipelineVariant], switches: Switches) -> Iterator[PipelineVariant]:
    """Yield `variants` after applying the switches for denoisers and for pipeline calls."""
    found = list(variants)
    denoisers = list({id(one): one for variant in found for one in denoisers_of(variant.pipeline)}.values())
    apply_to_denoisers(denoisers, switches)
    cache = None if switches.step_cache == "none" else StepCache(switches.step_cache, denoisers)
    interval = None
    if switches.guidance_interval != ALL_STEPS:
        interval = GuidanceInterval.parse(switches.guidance_interval)
    for variant in found:
        is_supported = variant.family.guidance_inputs is not None
        yield replace(variant, guidance_interval=interval if is_supported else None, step_cache=cache)


def _only_variant(folder: Path, *, allow_pickle: bool) -> str | None:
    """Return the variant of the weights to load from the component folder `folder`, or None for the default weights."""
    paths = [f"{folder.name}/{path.name}" for path in folder.iterdir()]
    return choose_variant(str(folder), paths, {folder.name}, None, allow_pickle=allow_pickle)


def _from_factory(factory: str) -> Any:
    module_name, _, function_name = factory.partition(":")
    if not module_name or not function_name:
        raise InvalidSettings(f"CODEC_PIPELINE must be module:function, got {factory!r}")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise InvalidSettings(f"cannot import CODEC_PIPELINE={factory}: {error}") from None
    return function()


def _describe(variants: tuple[PipelineVariant, ...], source: ModelSource, no_loras: str | None) -> ModelInfo:
    """Return the description of the model `source` for clients.

    `no_loras` is the result of no_loras_reason for this model.
    """
    name = source.name or str(source.factory)
    if source.name is not None:
        path = Path(locate_model(source))
        if path.is_file():
            name = path.stem
        elif Path(source.name).is_dir():
            name = path.resolve().name
    pipeline, geometry = variants[0].pipeline, variants[0].family.geometry
    channels, factor = geometry.channels(pipeline), geometry.spatial(pipeline)
    unet = getattr(pipeline, "unet", None)
    if unet is not None and not variants[0].mode.image and unet.config.in_channels != channels:
        raise ModelLoadError(
            f"{name}: its UNet has {unet.config.in_channels} input channels, but its VAE has {channels} latent "
            "channels; models that need further inputs, such as inpainting models, cannot be served as text-to-image"
        )
    temporal = geometry.temporal(pipeline)
    checks = {} if source.role is Role.DECODER else scheduler_checks(variants)
    return ModelInfo(
        name=name,
        aliases=aliases_of(name),
        latent_space=source.latent_space or latent_space_of(name),
        latent_channels=channels,
        spatial_factor=factor,
        size_multiple=factor * geometry.patch(pipeline),
        default_size=geometry.default_size(pipeline),
        limits=RequestLimits() if source.role is Role.DECODER else geometry.limits(pipeline),
        max_pixels=geometry.max_pixels(pipeline),
        has_fixed_size=geometry.has_fixed_size(pipeline),
        modalities=tuple(dict.fromkeys(variant.mode.modality for variant in variants)),
        renders=source.role is not Role.GENERATOR and vae_class_of(pipeline.vae) in VAE_DECODERS,
        temporal_factor=temporal,
        frame_multiple=temporal * geometry.group,
        min_frames=1 + (geometry.min_latent_frames - 1) * temporal,
        modes=tuple(variant.mode for variant in variants),
        loras=tuple(lora.info for lora in source.loras),
        schedulers=tuple(checks),
        prompt_syntaxes=prompt_syntaxes(variants),
        accepts_steps=None if source.role is Role.DECODER else step_check(variants),
        scheduler_checks=checks,
        request_loras=() if no_loras is None else None,
        lora_directory=source.lora_directory if no_loras is None else None,
        no_loras_reason=no_loras,
    )
