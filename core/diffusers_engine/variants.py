"""The pipelines of a model: the loaded pipeline, and related pipelines that are built from the same components.

For example, a Stable Diffusion text-to-image pipeline also serves image-to-image requests.
"""

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from core.diffusers_engine.clean_estimates import has_estimates
from core.diffusers_engine.extra_fields import extra_fields
from core.diffusers_engine.families import FAMILIES, Family
from core.diffusers_engine.families.guidance import TRUE_GUIDANCE
from core.diffusers_engine.step_cache import StepCache
from core.guidance_interval import GuidanceInterval
from core.model import GenerationMode

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PipelineVariant:
    """A pipeline and the row of the family table for this pipeline.

    The row of the family table describes how to call the pipeline.
    """

    pipeline: Any
    family: Family
    encodes: bool = True
    """Whether the weights of the VAE are loaded.

    Without the weights of the VAE, a client must send latents instead of input images.
    """
    guidance_interval: GuidanceInterval | None = None
    """The steps that use classifier-free guidance, or None if all steps use classifier-free guidance."""
    step_cache: StepCache | None = None
    """The step cache that all pipelines of the model share, or None without a step cache."""

    @property
    def mode(self) -> GenerationMode:
        """The combination of output modality and inputs that this pipeline serves."""
        mode = self.family.mode
        guidance = self.family.arguments.get("guidance_scale")
        return replace(
            mode,
            negative_prompt=mode.negative_prompt and self.family.uses_negative_prompt(self.pipeline),
            guidance_scale=guidance is not None and self.family.uses_guidance_scale(self.pipeline),
            guidance_of_negative_prompt=guidance == TRUE_GUIDANCE,
            latents=mode.latents and self._takes_latents_as_image(),
            latents_only=mode.image and not self.encodes,
            previews=self.family.previews and has_estimates(self.pipeline.scheduler),
            extra=extra_fields(self.pipeline, self.family, has_step_cache=self.step_cache is not None),
        )

    def _takes_latents_as_image(self) -> bool:
        """Return whether the pipeline accepts latents as the argument `image`.

        A pipeline that accepts latents as `image` recognizes latents by the number of channels.
        """
        channels: int = self.pipeline.image_processor.config.vae_latent_channels
        return channels == self.family.geometry.channels(self.pipeline)


def variants_of(pipeline: Any, family: Family) -> Iterator[PipelineVariant]:
    """Yield `pipeline`, then the pipelines of `family.related`.

    All pipelines share the components of `pipeline` and the weights of the components, but each pipeline has a separate
    scheduler.

    A related pipeline that cannot be built or does not work with the model's scheduler is skipped, and a warning is
    logged.
    """
    import diffusers  # noqa: PLC0415 - takes seconds

    yield PipelineVariant(pipeline, family)
    for mode in family.other_modes:
        yield PipelineVariant(pipeline, replace(family, mode=mode))
    for name in family.related:
        try:
            related = _from_components(getattr(diffusers, name), pipeline)
        except Exception as error:
            log.warning("%s cannot be built from the components of the model: %s", name, error)
            continue
        variant = PipelineVariant(related, FAMILIES[name])
        if not _can_inpaint(variant):
            log.warning("masks are not supported: %s needs a UNet with 4 or 9 input channels", name)
        elif can_add_noise(variant, variant.pipeline.scheduler):
            yield variant
        else:
            log.warning(
                "input images are not supported: %s cannot add noise to an image with %s",
                name,
                type(related.scheduler).__name__,
            )


_INPAINTING_CHANNELS = (4, 9)
"""Numbers of input channels of the UNets that the inpainting classes support.

With 9 channels, the input includes the mask and the masked image.
"""


def can_add_noise(variant: PipelineVariant, scheduler: Any) -> bool:
    """Return whether `scheduler` has the method that the pipeline of `variant` calls to add noise to an image."""
    method = "scale_noise" if variant.family.scales_noise else "add_noise"
    return not variant.mode.strength or hasattr(scheduler, method)


def _can_inpaint(variant: PipelineVariant) -> bool:
    """Return False if `variant` is for inpainting with a UNet that has an unsupported number of input channels."""
    unet = getattr(variant.pipeline, "unet", None)
    return not variant.family.mode.mask or unet is None or unet.config.in_channels in _INPAINTING_CHANNELS


def _from_components(pipeline_class: type, pipeline: Any) -> Any:
    """Return a pipeline of the class `pipeline_class` with the components of `pipeline`. The scheduler is copied.

    The scheduler is copied because some pipeline classes change the configuration of the scheduler. For example,
    StableDiffusionInpaintPipeline changes the setting `skip_prk_steps` of its scheduler.
    """
    accepted = inspect.signature(pipeline_class).parameters
    arguments = dict(pipeline.components)
    arguments["scheduler"] = copy.deepcopy(pipeline.scheduler)
    # Settings of the pipeline itself, e.g. whether it requires a safety checker.
    arguments |= {name: value for name, value in pipeline.config.items() if name in accepted and name not in arguments}
    return pipeline_class(**{name: value for name, value in arguments.items() if name in accepted})


def motion_variant(pipeline: Any, adapter: Any) -> PipelineVariant:
    """Return an AnimateDiff pipeline built from the components of an image pipeline and a MotionAdapter.

    The AnimateDiff UNet uses the tensors of the image pipeline and of the adapter, so that all weights are in memory
    only once. Raises ValueError if the adapter does not fit the image pipeline.
    """
    from accelerate import init_empty_weights  # noqa: PLC0415 - takes seconds
    from diffusers import AnimateDiffPipeline, UNetMotionModel  # noqa: PLC0415

    # Without values, which would be random numbers that are replaced below. torch warns that it copies none.
    with init_empty_weights(include_buffers=False), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        unet = UNetMotionModel.from_unet2d(pipeline.unet, adapter)
    unet.load_state_dict({**pipeline.unet.state_dict(), **adapter.state_dict()}, assign=True)
    accepted = inspect.signature(AnimateDiffPipeline).parameters
    components = {name: part for name, part in pipeline.components.items() if name in accepted}
    # The constructor uses a UNetMotionModel as it is and would convert any other UNet.
    video = AnimateDiffPipeline(**components | {"unet": unet.eval(), "motion_adapter": adapter})
    return PipelineVariant(video, FAMILIES["AnimateDiffPipeline"])
