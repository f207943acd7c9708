"""Description of a loaded model for clients."""

from pathlib import Path

from codec_pixels.known_models import aliases_of, latent_space_of
from codec_pixels.vae import VAE_DECODERS, vae_class_of
from codec_wire.errors import ModelLoadError
from core.diffusers_engine.schedule import scheduler_checks, step_check
from core.diffusers_engine.sources import ModelSource, locate_model
from core.diffusers_engine.variants import PipelineVariant
from core.diffusers_engine.weighted_prompts import prompt_syntaxes
from core.model import ModelInfo, RequestLimits
from core.role import Role


def describe(variants: tuple[PipelineVariant, ...], source: ModelSource, no_loras: str | None) -> ModelInfo:
    """Return the description of the model `source` for clients.

    `no_loras` is the result of no_loras_reason for this model.

    Raises ModelLoadError if the UNet of the model has other input channels than its VAE has latent channels.
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
