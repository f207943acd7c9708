"""Selection of the model for a request, by latent space, modality and model name."""

from collections.abc import Sequence

from codec_pixels.known_models import hub_id_of_latent_space, hub_id_of_name
from codec_wire.errors import NotFound, UnsupportedModality, truncated_repr
from codec_wire.request import GenerationRequest
from core.model import ModelInfo


def select_model(request: GenerationRequest, models: Sequence[ModelInfo]) -> ModelInfo:
    """Return the first of `models` that has the requested name, modality and latent space.

    If the request names a served latent space, the model name in the request is only a preference. A client that names
    a latent space can decode the latents of every model with this latent space. Other Codec servers ignore the model
    name of a request that names a latent space.

    Raises NotFound or UnsupportedModality if no model matches. The error names the request field whose value matches no
    model, and the allowed values of this field.
    """
    candidates = models
    if request.latent_space is not None:
        candidates = models_in_latent_space(request.latent_space, candidates, request.model)
    elif request.model is not None:
        candidates = models_named(request.model, candidates)
    candidates = _models_with_modality(request.modality, candidates)
    if request.model is None:
        return candidates[0]
    return next((model for model in candidates if request.model in _names(model)), candidates[0])


def models_named(name: str, models: Sequence[ModelInfo]) -> list[ModelInfo]:
    """Return the models that have `name` as their name or as an alias.

    Raises NotFound if no model has this name or alias.
    """
    matching = [model for model in models if name in _names(model)]
    if not matching:
        names = ", ".join(dict.fromkeys(known for model in models for known in _names(model)))
        other = hub_id_of_name(name) or "HUB_ID_OR_DIRECTORY"
        raise NotFound(
            "model",
            f"{truncated_repr(name)} not found; this server serves {names} (GET /v1/models); "
            f"to serve another model, start the server with --model {other}",
        )
    return matching


def models_in_latent_space(
    latent_space: str, models: Sequence[ModelInfo], requested_model: str | None = None
) -> list[ModelInfo]:
    """Return the models with the latent space `latent_space`.

    Raises NotFound if no model has this latent space. The message of the error states which latent space to send, and
    how to start a server that serves `latent_space`. If `requested_model` is a known model, the message of the error
    contains the hub id of this model.
    """
    matching = [model for model in models if model.latent_space == latent_space]
    if not matching:
        served = list(dict.fromkeys(model.latent_space for model in models))
        known = None if requested_model is None else hub_id_of_name(requested_model)
        other = known or hub_id_of_latent_space(latent_space) or "HUB_ID_OR_DIRECTORY"
        raise NotFound(
            "latent_space",
            f"{truncated_repr(latent_space)} not found; allowed: {', '.join(served)}. "
            f'Send "latent_space": "{served[0]}", or start the server with --model {other}',
        )
    return matching


def _names(model: ModelInfo) -> tuple[str, ...]:
    return (model.name, *model.aliases)


def _models_with_modality(modality: str, models: Sequence[ModelInfo]) -> list[ModelInfo]:
    matching = [model for model in models if modality in model.modalities]
    if not matching:
        supported = tuple(dict.fromkeys(str(known) for model in models for known in model.modalities))
        names = ", ".join(dict.fromkeys(model.name for model in models))
        raise UnsupportedModality(
            f"modality: {truncated_repr(str(modality))} is not supported by {names}; allowed: {', '.join(supported)}",
            supported,
        )
    return matching
