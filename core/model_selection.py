"""Selection of the model for a request, by model name, modality and latent space."""

from collections.abc import Iterable, Sequence

from codec_wire.errors import NotFound, UnsupportedModality, truncated_repr
from codec_wire.request import GenerationRequest
from core.model import ModelInfo


def select_model(request: GenerationRequest, models: Sequence[ModelInfo]) -> ModelInfo:
    """Return the model for `request`: the first one with the requested name, modality and latent space.

    Raises NotFound or UnsupportedModality, naming the field that no model matches and the values that are allowed.
    """
    candidates = list(models)
    if request.model is not None:
        candidates = models_named(request.model, candidates)
    candidates = _models_with_modality(request.modality, candidates)
    if request.latent_space is not None:
        candidates = models_in_latent_space(request.latent_space, candidates)
    return candidates[0]


def models_named(name: str, models: Iterable[ModelInfo]) -> list[ModelInfo]:
    """Return the models with this name or alias. Raises NotFound if there are none."""
    models = list(models)
    matching = [model for model in models if name in (model.name, *model.aliases)]
    if not matching:
        names = ", ".join(dict.fromkeys(known for model in models for known in (model.name, *model.aliases)))
        raise NotFound("model", f"{truncated_repr(name)} not found; this server serves {names}")
    return matching


def models_in_latent_space(latent_space: str, models: Iterable[ModelInfo]) -> list[ModelInfo]:
    """Return the models with this latent space. Raises NotFound if there are none."""
    models = list(models)
    matching = [model for model in models if model.latent_space == latent_space]
    if not matching:
        known = ", ".join(dict.fromkeys(model.latent_space for model in models))
        raise NotFound("latent_space", f"{truncated_repr(latent_space)} not found; allowed: {known}")
    return matching


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
