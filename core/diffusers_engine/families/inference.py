"""Inference of a row for the family table from the signature of a pipeline class that has no row.

An inferred row may be wrong. A model with an inferred row is served only if decoded latents equal the pixels that the
pipeline itself returns (see pixel_check).
"""

import inspect
from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import Tensor

from codec_wire.errors import ModelLoadError
from codec_wire.latents import Modality
from core.diffusers_engine.families.family import Family, Geometry
from core.diffusers_engine.families.guidance import TRUE_GUIDANCE
from core.model import GenerationMode
from core.plan import StreamPlan

_FIELDS = {
    "prompt": ("prompt",),
    "negative_prompt": ("negative_prompt",),
    "guidance_scale": ("guidance_scale", TRUE_GUIDANCE),
    "width": ("width",),
    "height": ("height",),
    "num_frames": ("num_frames", "frames"),
    "fps": ("frame_rate", "fps"),
    "image": ("image",),
}
"""Argument names that pipeline classes use, as a dictionary by field of the plan."""
_REQUIRED = ("prompt", "width", "height")
_REQUIRED_ARGUMENTS = ("num_inference_steps", "generator", "output_type")
_SPATIAL = ("vae_scale_factor", "vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_spatial_scale_factor")
_TEMPORAL = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio", "vae_temporal_scale_factor")
_DEFAULT_CELLS = 64
"""Side of the latents in latent cells if the pipeline class has no default size. Stable Diffusion 1 has the same side
for images of 512x512 pixels."""


def inferred_family(pipeline_class: type, model: str) -> Family:
    """Return a row for `pipeline_class`, which has no row in the family table.

    Raises ModelLoadError if the signature of the class does not have the arguments of a pipeline that generates images
    or videos from a prompt. The ModelLoadError names `model` and the missing or unknown arguments.
    """
    parameters = inspect.signature(pipeline_class.__call__).parameters
    found = {field: next((name for name in names if name in parameters), None) for field, names in _FIELDS.items()}
    missing = [field for field in _REQUIRED if found[field] is None]
    missing += [name for name in _REQUIRED_ARGUMENTS if name not in parameters]
    given = {name for name in found.values() if name is not None}
    unknown = [name for name, one in parameters.items() if name != "self" and _is_required(one) and name not in given]
    if missing or unknown:
        problems = [f"it has no argument {name}" for name in missing]
        problems += [f"it requires the argument {name}, which requests do not have" for name in unknown]
        raise ModelLoadError(
            f"{model}: the pipeline class {pipeline_class.__name__} has no row in the family table, and a row cannot "
            f"be inferred from its signature: {', '.join(problems)}"
        )
    has_image = found["image"] is not None and _is_required(parameters[found["image"]])
    is_video = found["num_frames"] is not None
    mode = GenerationMode(
        Modality.VIDEO if is_video else Modality.IMAGE,
        image=has_image,
        negative_prompt=found["negative_prompt"] is not None,
    )
    arguments = {field: name for field, name in found.items() if name is not None}
    if not has_image:
        arguments.pop("image", None)
    legacy = "callback_on_step_end" not in parameters and {"callback", "callback_steps"} <= parameters.keys()
    return Family(
        pipeline_class.__name__,
        mode,
        _video if is_video else _image,
        Geometry(
            partial(_default_size, parameters["width"].default, parameters["height"].default),
            channels=_channels,
            spatial=_spatial,
            patch=_patch,
            temporal=partial(_attribute, _TEMPORAL, default=1) if is_video else lambda _pipeline: 1,
        ),
        arguments=arguments,
        previews=False,
        batches=False,
        has_callback="callback_on_step_end" in parameters or legacy,
        legacy_callback=legacy,
        is_inferred=True,
    )


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_KEYWORD,
        parameter.VAR_POSITIONAL,
    )


def _attribute(names: Iterable[str], pipeline: Any, default: int) -> int:
    return int(next((getattr(pipeline, name) for name in names if hasattr(pipeline, name)), default))


def _spatial(pipeline: Any) -> int:
    return _attribute(_SPATIAL, pipeline, default=8)


def _channels(pipeline: Any) -> int:
    config = pipeline.vae.config
    return int(config.latent_channels if "latent_channels" in config else config.z_dim)


def _denoiser(pipeline: Any) -> Any:
    return getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)


def _patch(pipeline: Any) -> int:
    if hasattr(pipeline, "_unpack_latents"):
        return 2
    patch = getattr(getattr(_denoiser(pipeline), "config", None), "patch_size", None) or 1
    return int(patch[-1] if isinstance(patch, list | tuple) else patch)


def _default_size(width: Any, height: Any, pipeline: Any) -> tuple[int, int]:
    if isinstance(width, int) and isinstance(height, int):
        return width, height
    cells = getattr(pipeline, "default_sample_size", None)
    if not isinstance(cells, int):
        cells = getattr(getattr(_denoiser(pipeline), "config", None), "sample_size", None)
    side = (cells if isinstance(cells, int) else _DEFAULT_CELLS) * _spatial(pipeline)
    return side, side


def _image(pipeline: Any, output: Any, plan: StreamPlan) -> Tensor:
    latents: Tensor = output.images
    if latents.dim() == 3 and hasattr(pipeline, "_unpack_latents"):
        latents = pipeline._unpack_latents(latents, plan.height, plan.width, _spatial(pipeline))
    return latents.squeeze(2) if latents.dim() == 5 else latents


def _video(_pipeline: Any, output: Any, plan: StreamPlan) -> Tensor:
    latents: Tensor = output.frames[0]
    channels = plan.header.shape[0]
    is_channels_first = latents.dim() == 4 and latents.shape[0] == channels and latents.shape[1] == plan.latent_frames
    return latents.transpose(0, 1) if is_channels_first else latents
