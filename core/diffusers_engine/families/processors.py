"""Components that `from_pretrained` of diffusers cannot load in every environment."""

import importlib.util
from pathlib import Path
from typing import Any

PROCESSOR = "processor"
"""Name of the component that prepares texts and images for a language model."""


def no_components(_folder: Path) -> dict[str, Any]:
    """Return an empty dictionary, for classes whose components `from_pretrained` always loads."""
    return {}


def qwen_processor(folder: Path, name: str = PROCESSOR) -> dict[str, Any]:
    """Return the processor of Qwen2-VL in the model directory `folder`, or an empty dictionary.

    `name` is the name of the component. If torchvision is installed, the dictionary is empty, and `from_pretrained`
    loads the processor.
    """
    if importlib.util.find_spec("torchvision") is not None:
        return {}
    from core.diffusers_engine.image_text_processor import ImageTextProcessor  # noqa: PLC0415 - takes seconds

    return {name: ImageTextProcessor.from_pretrained(folder / name)}
