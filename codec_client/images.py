"""From latents to pictures, by the VAE that the latent-space map names. Needs torch and diffusers."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codec_pixels.vae_location import locate_vae, needs_torch, vae_folder
from codec_wire.errors import ModelLoadError
from codec_wire.maps import LatentMap

if TYPE_CHECKING:
    from PIL.Image import Image


class PixelDecoder:
    """A map's VAE, loaded once, for any number of latents. It computes in fp32 wherever it runs."""

    def __init__(
        self,
        latent_map: LatentMap | None,
        *,
        place: str | os.PathLike[str] | None = None,
        models_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
        vae: Any = None,
    ) -> None:
        """Load the VAE: from `place` (its directory or a pipeline's), where locate_vae finds it for None.

        `vae` is one that is loaded already. With either of them no map is needed. Raises ModelLoadError, InvalidMap
        or InvalidSettings.
        """
        try:
            from codec_pixels.device import Device  # noqa: PLC0415 - the client has no torch
            from codec_pixels.quiet import quiet_libraries  # noqa: PLC0415
            from codec_pixels.vae import decode_latents, load_vae  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise needs_torch(error) from None
        quiet_libraries()
        chosen = Device.chosen(device, "fp32", None)
        if vae is None:
            if place is not None:
                folder = vae_folder(Path(place))
            elif latent_map is not None:
                folder = locate_vae(latent_map, None if models_dir is None else Path(models_dir))
            else:
                raise ModelLoadError("without a latent-space map, the directory of the decoder must be named")
            vae = load_vae(_model_class(latent_map, folder), str(folder))
        self._vae = vae.to(device=chosen.torch_device, dtype=chosen.dtype)
        self._decode = decode_latents

    def frames(self, latents: NDArray[Any] | Iterable[NDArray[Any]]) -> NDArray[np.uint8]:
        """Return the pictures of latents as they travel: uint8 [frames, H, W, 3].

        `latents` is one frame's [C, h, w], or frames: [n, C, h, w], or any iterable of [C, h, w].
        """
        given = latents if isinstance(latents, np.ndarray) else list(latents)
        array = np.array(given, dtype=np.float32)
        if array.ndim == 3:
            array = array[np.newaxis]
        if array.ndim != 4 or not len(array):
            raise ModelLoadError(f"latents must be [C, h, w] or [frames, C, h, w], got {list(array.shape)}")
        return self._decode(self._vae, array)

    def images(self, latents: NDArray[Any] | Iterable[NDArray[Any]]) -> "list[Image]":
        """Return one PIL image a frame. See frames."""
        from PIL import Image  # noqa: PLC0415 - only pictures need pillow

        return [Image.fromarray(pixels) for pixels in self.frames(latents)]


def _model_class(latent_map: LatentMap | None, folder: Path) -> str:
    """Return the class that the map names, or that the VAE's own configuration does."""
    if latent_map is not None and latent_map.decoder is not None:
        return latent_map.decoder.model_class
    try:
        return str(json.loads((folder / "config.json").read_bytes())["_class_name"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelLoadError(f"there is no VAE in {folder}: its config.json names no class") from None


def decode_to_images(
    latents: NDArray[Any] | Iterable[NDArray[Any]], latent_map: LatentMap, **options: Any
) -> "list[Image]":
    """Return a PIL image for each frame of `latents`, decoded by the VAE that the map's `decoder` block names.

    `options` are PixelDecoder's: place, models_dir, device, vae. Loads the VAE: for more than one stream, keep a
    PixelDecoder. Raises what PixelDecoder raises.
    """
    return PixelDecoder(latent_map, **options).images(latents)


def decode_to_frames(
    latents: NDArray[Any] | Iterable[NDArray[Any]], latent_map: LatentMap, **options: Any
) -> NDArray[np.uint8]:
    """Return the frames of `latents` as uint8 [frames, H, W, 3]. See decode_to_images."""
    return PixelDecoder(latent_map, **options).frames(latents)
