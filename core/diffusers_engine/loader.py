"""Loading of a diffusers pipeline from a hub id, a local directory, a single file or a factory function."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codec_pixels.device import Device
from codec_pixels.library_logging import silence_libraries
from codec_pixels.vae import vae_class_of
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
from core.diffusers_engine.lora_adapters import LoraAdapters
from core.diffusers_engine.lora_support import no_loras_reason
from core.diffusers_engine.loras import apply_loras
from core.diffusers_engine.model_description import describe
from core.diffusers_engine.model_files import fetch_model
from core.diffusers_engine.precision import dtype_name_of, with_stored_dtype
from core.diffusers_engine.prompt_cache import PromptCache
from core.diffusers_engine.quantization import quantization_arguments
from core.diffusers_engine.served_variants import served_variants
from core.diffusers_engine.single_file import load_single_file
from core.diffusers_engine.sources import ModelSource, locate_model
from core.diffusers_engine.step_cache import StepCache
from core.diffusers_engine.unloaded import discard_weights
from core.diffusers_engine.variants import PipelineVariant
from core.guidance_interval import ALL_STEPS, GuidanceInterval
from core.model import ModelInfo
from core.plan import StreamPlan
from core.role import Role
from core.switches import Mode, Switches

__all__ = ["LoadedModel", "ModelSource", "load"]

log = logging.getLogger(__name__)


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
    lora_adapters: LoraAdapters | None = None
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

        Use the context manager only on the device thread. See LoraAdapters.applied.
        """
        if not plan.loras:
            return nullcontext()
        if self.lora_adapters is None:
            raise InvalidRequest("loras", f"is not supported by {plan.model}")
        return self.lora_adapters.applied(self.variant_for(plan).pipeline, plan.loras)

    def variant_for(self, plan: StreamPlan) -> PipelineVariant:
        """Return the pipeline for the modality and the kinds of input of `plan`.

        `plan` must be a plan for this model.
        """
        if len(self.variants) == 1:
            return self.variants[0]
        inputs = plan.inputs
        for variant in self.variants:
            mode = variant.family.mode
            if mode.modality is plan.modality and mode.inputs == inputs:
                return variant
        raise LookupError(f"{plan.model} has no pipeline for {plan.modality} from {inputs}")


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
        variants = tuple(_accelerated(served_variants(pipeline, family, source), switches))
        prompts = PromptCache()
        for one in {id(variant.pipeline): variant.pipeline for variant in variants}.values():
            one.set_progress_bar_config(disable=True)
            prompts.attach(one)
        no_loras = no_loras_reason(source, variants, switches)
        adapters = None
        if no_loras is None and source.lora_directory is not None:
            adapters = LoraAdapters(source.lora_directory, prompts, allow_partial=source.allow_partial_loras)
        return LoadedModel(
            variants=variants,
            info=describe(variants, source, no_loras),
            # A VAE without a scaling factor has latents_mean and latents_std, which decoding applies instead.
            vae_scale_factor=float(getattr(pipeline.vae.config, "scaling_factor", None) or 1.0),
            vae_class=vae_class_of(pipeline.vae),
            device=device,
            prompts=prompts,
            lora_adapters=adapters,
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


def _from_factory(factory: str) -> Any:
    module_name, _, function_name = factory.partition(":")
    if not module_name or not function_name:
        raise InvalidSettings(f"CODEC_PIPELINE must be module:function, got {factory!r}")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise InvalidSettings(f"cannot import CODEC_PIPELINE={factory}: {error}") from None
    return function()
