"""How each family of diffusers pipelines is loaded, called, and gives its latents back: one row each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from core.errors import ModelLoadError
from core.latents import Modality


@dataclass(frozen=True, slots=True)
class Family:
    """One row.

    `pipeline_class` is the class in diffusers; `load_arguments` goes to `from_pretrained`; `frames` turns what
    `output_type="latent"` returned into [frames, channels, height, width], scaled as the VAE's decoder expects them
    divided by its scaling factor.
    """

    pipeline_class: str
    modality: Modality
    frames: Callable[[Any], Tensor]
    load_arguments: Mapping[str, Any] = field(default_factory=dict)


def _images(output: Any) -> Tensor:
    """Latents [B, C, H, W] with one picture in the batch: one frame."""
    latents: Tensor = output.images
    return latents


FAMILIES: dict[str, Family] = {
    row.pipeline_class: row
    for row in (
        # The safety checker looks at pixels, and none are made here: its 1.2 GB need not be read.
        Family(
            "StableDiffusionPipeline",
            Modality.IMAGE,
            _images,
            {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
        ),
        Family("StableDiffusionXLPipeline", Modality.IMAGE, _images),
    )
}


def family_named(class_name: str | None, model: str) -> Family:
    """Return the row of a pipeline class. Raises ModelLoadError listing what is served, for one without a row."""
    family = FAMILIES.get(class_name or "")
    if family is None:
        raise ModelLoadError(
            f"{model} is a {class_name or 'model of no pipeline class'}; served are {', '.join(FAMILIES)}. "
            "Anything scripted can be served by a factory that returns one of these (CODEC_PIPELINE=module:function)"
        )
    return family


def family_of(pipeline: object, model: str) -> Family:
    """Return the row of a pipeline's class or of the nearest class it extends. Raises ModelLoadError for none."""
    names = [cls.__name__ for cls in type(pipeline).__mro__]
    served = next((name for name in names if name in FAMILIES), names[0])
    return family_named(served, model)
