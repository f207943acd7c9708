"""Decoding of latents to images with the VAE of a latent-space map. Decoding requires torch and diffusers."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codec_pixels.vae_location import locate_vae, missing_torch_error, pipeline_class_of, vae_folder
from codec_wire.errors import ModelLoadError
from codec_wire.maps import LatentMap

if TYPE_CHECKING:
    from PIL.Image import Image


class PixelDecoder:
    """A VAE that is loaded once and decodes any number of latents. The VAE always computes in float32.

    Args:
        latent_map: The map whose `decoder` block names the VAE. The map may be None if `path` or `vae` is given.
        path: Directory of the VAE, or of a diffusers pipeline that contains the VAE. If `path` is given, the VAE that
            the map names is ignored.
        models_dir: Directory of local models. The VAE that the map names is searched for in `models_dir`.
        download: Whether to download the VAE if the map names a Hugging Face repository that is not on this machine.
            The default of `download` is False, because a server usually chooses the map. If `download` is false and the
            VAE is not on this machine, a ModelLoadError names the repository.
        device: torch device, for example "cpu" or "cuda:1". The default "auto" selects a GPU if the machine has one.
        vae: A diffusers VAE that is already loaded. If `vae` is given, `latent_map` and `path` are ignored.
        pipeline_class: Name of the diffusers class of the pipeline that generates the latents. By default, the class is
            read from the model_index.json next to or above the VAE. The pipeline class determines how the latents are
            scaled before they are decoded. If the pipeline class is unknown, the configuration of the VAE determines
            the scaling. See codec_pixels.latent_scaling.scaling_of.

    Raises:
        ModelLoadError: the VAE cannot be found or loaded, or torch is not installed.
        InvalidMap: the hash of the weights differs from the hash that the map states.
        InvalidSettings: the device is not available.

    """

    def __init__(
        self,
        latent_map: LatentMap | None,
        *,
        path: str | os.PathLike[str] | None = None,
        models_dir: str | os.PathLike[str] | None = None,
        download: bool = False,
        device: str = "auto",
        vae: Any = None,
        pipeline_class: str | None = None,
    ) -> None:
        try:
            from codec_pixels.device import Device  # noqa: PLC0415 - importing codec_client needs no torch
            from codec_pixels.library_logging import silence_libraries  # noqa: PLC0415
            from codec_pixels.vae import decode_latents, is_offloaded, load_vae  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise missing_torch_error(error) from None
        silence_libraries()
        torch_device = Device.from_settings(device, "fp32", None)
        if vae is None:
            if path is not None:
                folder = vae_folder(Path(path))
            elif latent_map is not None:
                folder = locate_vae(latent_map, None if models_dir is None else Path(models_dir), download=download)
            else:
                raise ModelLoadError(
                    "PixelDecoder needs at least one of these arguments: latent_map, path (directory of a VAE), vae "
                    "(loaded VAE)"
                )
            # Other weights than safetensors can contain code.
            vae = load_vae(_model_class(latent_map, folder), str(folder), use_safetensors=True)
            pipeline_class = pipeline_class or pipeline_class_of(folder)
        # An offloaded VAE can be neither moved nor cast.
        self._vae = vae if is_offloaded(vae) else vae.to(device=torch_device.torch_device, dtype=torch_device.dtype)
        self._pipeline_class = pipeline_class
        self._decode = decode_latents

    def frames(self, latents: NDArray[Any] | Iterable[NDArray[Any]]) -> NDArray[np.uint8]:
        """Decode latents to pixels, and return an array [frames, H, W, 3] of uint8.

        `latents` is an array with one latent frame [C, h, w] or several latent frames [latent frames, C, h, w], or any
        iterable of latent frames [C, h, w]. Pass the latents as received. Do not divide the latents by the map's
        vae_scale_factor.

        Raises:
            ModelLoadError: `latents` has neither three nor four dimensions, or is empty.

        """
        array = np.array(latents if isinstance(latents, np.ndarray) else list(latents), dtype=np.float32)
        if array.ndim == 3:
            array = array[np.newaxis]
        if array.ndim != 4 or not len(array):
            raise ModelLoadError(
                f"latents must have the shape [C, h, w] or [latent frames, C, h, w], got {list(array.shape)}"
            )
        return self._decode(self._vae, array, self._pipeline_class)

    def images(self, latents: NDArray[Any] | Iterable[NDArray[Any]]) -> "list[Image]":
        """Decode latents to PIL images, one per frame.

        The parameters and errors are the same as in the method frames().
        """
        from PIL import Image  # noqa: PLC0415 - importing codec_client needs no Pillow

        return [Image.fromarray(pixels) for pixels in self.frames(latents)]


def _model_class(latent_map: LatentMap | None, folder: Path) -> str:
    """Return the class name of the VAE from the map, or else from the configuration of the VAE."""
    if latent_map is not None and latent_map.decoder is not None:
        return latent_map.decoder.model_class
    try:
        return str(json.loads((folder / "config.json").read_bytes())["_class_name"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelLoadError(
            f"no VAE found in {folder}: the directory must contain a config.json with the key _class_name"
        ) from None


def decode_to_images(
    latents: NDArray[Any] | Iterable[NDArray[Any]], latent_map: LatentMap, **options: Any
) -> "list[Image]":
    """Decode latents to PIL images, one per frame, with the VAE that the map's `decoder` block names.

    `options` are the keyword arguments of PixelDecoder: path, models_dir, download, device, vae and pipeline_class.
    PixelDecoder.frames describes `latents`. Raises the same errors as PixelDecoder and PixelDecoder.frames. Every call
    of this function loads the VAE. To decode several generations, use one PixelDecoder.
    """
    return PixelDecoder(latent_map, **options).images(latents)


def decode_to_frames(
    latents: NDArray[Any] | Iterable[NDArray[Any]], latent_map: LatentMap, **options: Any
) -> NDArray[np.uint8]:
    """Decode latents to an array [frames, H, W, 3] of uint8. See decode_to_images."""
    return PixelDecoder(latent_map, **options).frames(latents)
