"""Loading of a VAE that is stored without a pipeline, from a directory with the file config.json and weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codec_pixels.vae import load_vae
from codec_wire.errors import ModelLoadError
from codec_wire.latents import Modality
from core.diffusers_engine.families import Family, Geometry, latent_layouts
from core.model import GenerationMode

CONFIG = "config.json"
_CLASSES = ("AutoencoderKL", "AutoencoderDC")
"""Names of the supported VAE classes, all of which are for images.

A VAE for videos is not supported without a pipeline, because the configuration of the pipeline is needed.
"""
_DEFAULT_SIDE = 512


def _default_size(pipeline: Any) -> tuple[int, int]:
    side = getattr(pipeline.vae.config, "sample_size", None)
    side = side if isinstance(side, int) else _DEFAULT_SIDE
    return side, side


SEPARATE_VAE = Family(
    "",  # The class of a pipeline that is unknown: the configuration of the VAE determines how latents are scaled.
    GenerationMode(Modality.IMAGE),
    latent_layouts.image,
    Geometry(_default_size),
    previews=False,
)


def load_separate_vae(folder: Path, arguments: Mapping[str, Any]) -> Any:
    """Return a pipeline whose only component is the VAE in `folder`.

    `arguments` are keyword arguments for the method `from_pretrained` of the VAE class. Raises ModelLoadError if
    `folder` does not contain a VAE for images.
    """
    from diffusers import DiffusionPipeline  # noqa: PLC0415 - takes seconds

    class VaePipeline(DiffusionPipeline):  # type: ignore[misc]
        """A pipeline whose only component is a VAE."""

        def __init__(self, vae: Any) -> None:
            super().__init__()
            self.register_modules(vae=vae)

        @property
        def vae_scale_factor(self) -> int:
            """Pixels per latent cell along each side."""
            blocks = getattr(self.vae.config, "block_out_channels", None) or self.vae.config.encoder_block_out_channels
            return int(2 ** (len(blocks) - 1))

    config = folder / CONFIG
    vae_class = json.loads(config.read_bytes()).get("_class_name") if config.is_file() else None
    if vae_class not in _CLASSES:
        raise ModelLoadError(
            f"{folder} contains {vae_class or 'neither a pipeline nor a VAE'}; a VAE that is stored without a pipeline "
            f"must be of the class {' or '.join(_CLASSES)}"
        )
    return VaePipeline(load_vae(vae_class, str(folder), **arguments))
