"""Models loaded through the server's factory setting, module:function."""

from pathlib import Path
from typing import Any

from codec_pixels.device import Device
from core.diffusers_engine.loader import LoadedModel, ModelSource, load
from tests.support.serving import LATENT_SPACE


def load_from_factory(factory: str, device: Device) -> LoadedModel:
    """Load the pipeline that `factory` ("module:function") returns, with the latent space of the tests' servers."""
    no_models_dir = Path("nowhere")
    return load(ModelSource(None, factory, no_models_dir, LATENT_SPACE), device)


_built: list[Any] = []


def _last_built() -> Any:
    return _built.pop()


def load_built(pipeline: Any, device: Device) -> LoadedModel:
    """Load `pipeline` as if a factory had returned it."""
    _built.append(pipeline)
    return load_from_factory(f"{__name__}:{_last_built.__name__}", device)
