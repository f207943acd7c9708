"""The table of supported diffusers pipeline classes, with one row for each class.

To support a class, add a row to one of the modules of this package. The class `Family` in family.py documents the
columns of the table. The test file tests/test_families.py compares the result of every row with the pixels that the
pipeline class itself generates.
"""

from codec_wire.errors import ModelLoadError, truncated_repr
from core.diffusers_engine.families.family import Family, Geometry
from core.diffusers_engine.families.flux import FLUX_FAMILIES
from core.diffusers_engine.families.images import IMAGE_FAMILIES
from core.diffusers_engine.families.inference import inferred_family
from core.diffusers_engine.families.kandinsky import KANDINSKY_FAMILIES
from core.diffusers_engine.families.language_models import LANGUAGE_MODEL_FAMILIES
from core.diffusers_engine.families.videos import VIDEO_FAMILIES
from core.diffusers_engine.families.wan import WAN_FAMILIES

__all__ = ["FAMILIES", "Family", "Geometry", "family_named", "family_of"]

_ROWS = (*IMAGE_FAMILIES, *FLUX_FAMILIES, *LANGUAGE_MODEL_FAMILIES, *VIDEO_FAMILIES, *WAN_FAMILIES, *KANDINSKY_FAMILIES)
FAMILIES: dict[str, Family] = {family.pipeline_class: family for family in _ROWS}


def family_named(class_name: object, model: str) -> Family:
    """Return the family of the pipeline class `class_name`, or a family that is inferred from a class of diffusers.

    Raises ModelLoadError if the class has no family and no family can be inferred. The ModelLoadError names the
    supported classes.
    """
    if class_name is not None and not isinstance(class_name, str):
        raise ModelLoadError(
            f"{model}: _class_name in model_index.json must be the name of a pipeline class, got "
            f"{truncated_repr(class_name)}"
        )
    family = FAMILIES.get(class_name or "")
    if family is None and class_name:
        import diffusers  # noqa: PLC0415 - takes seconds

        if hasattr(diffusers, class_name):
            return _inferred(getattr(diffusers, class_name), model)
    if family is None:
        raise ModelLoadError(
            f"{model} has {f'the pipeline class {class_name}' if class_name else 'no pipeline class'}; supported "
            f"classes: {', '.join(FAMILIES)}. To serve a pipeline of one of these classes from your own function, set "
            "CODEC_PIPELINE=module:function"
        )
    return family


def family_of(pipeline: object, model: str) -> Family:
    """Return the family of the pipeline's class or of the nearest supported base class, or an inferred family.

    Raises ModelLoadError if neither the class nor a base class is supported, and no family can be inferred.
    """
    names = [cls.__name__ for cls in type(pipeline).__mro__]
    supported = next((name for name in names if name in FAMILIES), None)
    return _inferred(type(pipeline), model) if supported is None else FAMILIES[supported]


def _inferred(pipeline_class: type, model: str) -> Family:
    """Infer and return a family from the signature of `pipeline_class`, a class without a row in the table."""
    try:
        return inferred_family(pipeline_class, model)
    except ModelLoadError as error:
        raise ModelLoadError(f"{error}. Classes with a row in the family table: {', '.join(FAMILIES)}") from None
