"""Functions that return whether a loaded pipeline uses a guidance scale or a negative prompt.

Whether a pipeline uses a guidance scale or a negative prompt depends on how the model was distilled. The configurations
of the pipeline's components show how the model was distilled. In the server role "decoder", components of the pipeline
can be missing.
"""

from typing import Any

TRUE_GUIDANCE = "true_cfg_scale"
"""Name of the guidance scale in classes that use classifier-free guidance only if there is a negative prompt."""


def always(_pipeline: Any) -> bool:
    """Return True for every pipeline."""
    return True


def embeds_guidance(pipeline: Any) -> bool:
    """Return whether the transformer or the ControlNet of `pipeline` has an embedding of the guidance scale.

    Timestep-distilled models such as FLUX.1 schnell have no embedding of the guidance scale.
    """
    parts = (getattr(pipeline, name, None) for name in ("transformer", "controlnet"))
    # A MultiControlNet has no configuration.
    return any(bool(getattr(getattr(part, "config", None), "guidance_embeds", False)) for part in parts)


def is_not_distilled(pipeline: Any) -> bool:
    """Return whether the setting `is_distilled` of `pipeline` is unset, as for the base models of FLUX.2 Klein."""
    return not pipeline.config.get("is_distilled", False)


def has_plain_unet(pipeline: Any) -> bool:
    """Return whether the UNet of `pipeline` has no embedding of the guidance scale.

    If the UNet has an embedding of the guidance scale (latent consistency models), classifier-free guidance is
    disabled.
    """
    config = getattr(getattr(pipeline, "unet", None), "config", None)
    return getattr(config, "time_cond_proj_dim", None) is None


def has_guider(pipeline: Any) -> bool:
    """Return whether a component of `pipeline` combines the predictions for the prompt and for the negative prompt.

    In a distilled Hunyuan model, the component that combines the predictions is missing or disabled.
    """
    guiders = (getattr(pipeline, name, None) for name in ("guider", "ocr_guider"))
    return any(guider._enabled and guider.num_conditions > 1 for guider in guiders if guider is not None)
