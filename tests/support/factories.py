"""Models that a function builds, loaded as the server loads them."""

from pathlib import Path

from codec_pixels.device import Device
from core.diffusers_engine.loader import LoadedModel, ModelSource, load
from tests.support.serving import LATENT_SPACE


def built_by(factory: str, device: Device) -> LoadedModel:
    """Return the model of a factory, module:function, whose latent space is that of the tests' servers."""
    return load(ModelSource(None, factory, Path("nowhere"), LATENT_SPACE), device)
