"""The table of pipeline families: how each is loaded, called, and gives its latents back. One row a class."""

from codec_wire.errors import ModelLoadError
from core.diffusers_engine.families.family import Family, Geometry
from core.diffusers_engine.families.images import IMAGE_FAMILIES
from core.diffusers_engine.families.videos import VIDEO_FAMILIES

__all__ = ["FAMILIES", "Family", "Geometry", "family_named", "family_of"]

FAMILIES: dict[str, Family] = {row.pipeline_class: row for row in (*IMAGE_FAMILIES, *VIDEO_FAMILIES)}


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
