"""Selection of the model's input combination for a request, and validation of the fields in this combination."""

from codec_wire.errors import InvalidRequest
from codec_wire.http import ENCODE_PATH
from codec_wire.request import GenerationRequest
from core.extra_limits import require_extra, uses_true_guidance
from core.model import INPUT_FIELDS, GenerationMode, ModelInfo


def select_mode(request: GenerationRequest, model: ModelInfo) -> GenerationMode:
    """Return the input combination of `model` that has exactly the inputs of `request`.

    Raises InvalidRequest if a required field is missing or a field is not supported. The InvalidRequest names the
    missing or unsupported field.
    """
    if request.latents is not None and request.image is not None:
        raise InvalidRequest("latents", "must not be combined with image, got both")
    has_image = request.image is not None or request.latents is not None
    has_control_image, has_mask = request.control_image is not None, request.mask is not None
    if has_mask and not has_image:
        raise InvalidRequest("mask", "requires `image`, which the mask refers to, got a mask without an image")
    given = (has_image, has_control_image, has_mask)
    for mode in model.all_modes:
        if mode.modality is request.modality and (mode.image, mode.control_image, mode.mask) == given:
            break
    else:
        raise _inputs_error(request, model, given)
    if request.image is not None and mode.latents_only:
        raise InvalidRequest(
            "image",
            f"must be sent as `latents`, because this server runs {model.name} without the VAE that encodes "
            f"images. To encode the image, send it to {ENCODE_PATH} of a server that has the VAE",
        )
    if request.latents is not None and not mode.latents:
        raise InvalidRequest(
            "latents", f"is not supported by {model.name}; send an input image in the field `image` instead"
        )
    if request.strength is not None and not mode.strength:
        raise InvalidRequest("strength", f"is not supported by {model.name} for {mode}")
    if request.preview_every is not None:
        require_previews("preview_every", model, mode)
    require_extra(request, model, mode)
    if request.negative_prompt and not mode.negative_prompt and not uses_true_guidance(request.extra):
        is_possible = any(field.name == "true_cfg_scale" for field in mode.extra)
        condition = " unless extra.true_cfg_scale is above 1" if is_possible else ""
        raise InvalidRequest("negative_prompt", f"is not supported by {model.name}{condition}")
    if request.guidance_scale is not None:
        _require_guidance(request, mode, model)
    return mode


def _inputs_error(request: GenerationRequest, model: ModelInfo, given: tuple[bool, ...]) -> InvalidRequest:
    """Return the error for a request whose inputs no input combination of `model` has.

    `given` states for each of INPUT_FIELDS whether the request has this input. The error names the first field that no
    input combination with the fields before it has.
    """
    supported_modes = modes = model.modes_of(request.modality)
    for field, is_given in zip(INPUT_FIELDS, given, strict=True):
        modes = tuple(mode for mode in modes if getattr(mode, field) == is_given)
        if not modes:
            break
    reason = "is not supported" if is_given else "is required"
    supported = "; ".join(map(str, supported_modes))
    name = "latents" if field == "image" and request.latents is not None else field
    return InvalidRequest(name, f"{reason} by {model.name}, which generates {supported}")


def _require_guidance(request: GenerationRequest, mode: GenerationMode, model: ModelInfo) -> None:
    """Raise InvalidRequest if the guidance scale of `request` has no effect in `mode` of `model`."""
    if not mode.guidance_scale:
        raise InvalidRequest(
            "guidance_scale", f"is not supported by {model.name}, which has no adjustable guidance; remove the field"
        )
    if mode.guidance_of_negative_prompt and request.negative_prompt is None:
        raise InvalidRequest(
            "guidance_scale",
            f"has no effect on {model.name} without `negative_prompt`; send a negative prompt (a space is sufficient)",
        )


def require_previews(field: str, model: ModelInfo, mode: GenerationMode) -> None:
    """Raise InvalidRequest for the request field `field` if `mode` of `model` has no previews."""
    if not mode.previews:
        raise InvalidRequest(field, f"is not supported by {model.name} for {mode}")
