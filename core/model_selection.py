"""Which of the models that are served a request means."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from codec_wire.errors import NotFound, UnsupportedModality, truncated_repr
from codec_wire.request import GenerationRequest
from core.model import ModelInfo


class HasModel(Protocol):
    """Something that serves a model."""

    @property
    def model(self) -> ModelInfo:
        """The model."""


Candidate = TypeVar("Candidate", bound=HasModel)


def choose(request: GenerationRequest, models: Sequence[Candidate]) -> Candidate:
    """Return the one that `request` is for: by its model, modality and latent space; of several, the first.

    Raises NotFound or UnsupportedModality naming what all of them together have.
    """
    found = list(models)

    def keep(fits: Callable[[ModelInfo], bool]) -> bool:
        nonlocal found
        found = [one for one in found if fits(one.model)] or found
        return fits(found[0].model)

    name, latent_space, modality = request.model, request.latent_space, request.modality
    if name is not None and not keep(lambda model: model.answers_to(name)):
        names = ", ".join(known for one in models for known in (one.model.name, *one.model.aliases))
        raise NotFound("model", f"this server runs {names}, got {truncated_repr(name)}")
    if not keep(lambda model: modality in model.modalities):
        made = tuple(dict.fromkeys(str(made) for one in found for made in one.model.modalities))
        who = ", ".join(dict.fromkeys(one.model.name for one in found))
        raise UnsupportedModality(f"modality: {who} makes {', '.join(made)}, got {truncated_repr(str(modality))}", made)
    if latent_space is not None and not keep(lambda model: model.latent_space == latent_space):
        spaces = ", ".join(dict.fromkeys(one.model.latent_space for one in found))
        raise NotFound("latent_space", f"this server has {spaces}, got {truncated_repr(latent_space)}")
    return found[0]
