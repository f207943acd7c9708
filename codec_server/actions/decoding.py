"""Decoding of received latents to pixels on this machine. Used by `generate` and `reproduce`."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec_client import LatentClient, PixelDecoder
from codec_server.in_process import InProcessClient
from codec_wire.errors import InvalidSettings
from codec_wire.maps import LatentMap
from core.settings import Settings


@dataclass(slots=True)
class Decoding:
    """Decoder with the VAE in the directory `path`, or, without `path`, with the VAE that the latent-space map names.

    The VAE of the map is downloaded from Hugging Face only if `download` is True. The VAE is loaded once, so all
    latents must come from the same model.
    """

    settings: Settings
    path: Path | None
    download: bool
    _decoder: PixelDecoder | None = field(default=None, init=False)

    async def frames(self, latents: NDArray[Any], map_hash: str | None, client: LatentClient) -> NDArray[np.uint8]:
        """Decode latents [latent frames, C, h, w] from `client` to uint8 pixels [frames, H, W, 3].

        `map_hash` is the hash of the latent-space map of the latents. If the model runs in this process and was not
        loaded from a local directory, the VAE of its pipeline is used. Raises the errors of LatentClient.latent_map and
        PixelDecoder.
        """
        if self._decoder is None:
            latent_map = None if self.path is not None else (await client.latent_map(map_hash)).latent_map
            self._decoder = await asyncio.to_thread(self._load, latent_map, client)
        return await asyncio.to_thread(self._decoder.frames, latents)

    def require_previews(self, client: LatentClient) -> None:
        """Raise InvalidSettings if previews cannot be decoded while the model in this process samples.

        An offloaded VAE would replace the sampling model on the device. Call this method after sampling has begun.
        """
        if isinstance(client, InProcessClient) and self._local_path(client) is None:
            from codec_pixels.vae import is_offloaded  # noqa: PLC0415 - clients of a server start without torch

            if is_offloaded(_engine_of(client).vae):
                raise InvalidSettings(
                    "--preview needs --decoder for this model, because the VAE of its pipeline is offloaded from "
                    "the device"
                )

    def _load(self, latent_map: LatentMap | None, client: LatentClient) -> PixelDecoder:
        path = self._local_path(client)
        options: dict[str, Any] = {"path": path, "download": self.download}
        if path is None and isinstance(client, InProcessClient):
            engine = _engine_of(client)
            options = {"vae": engine.vae, "pipeline_class": engine.pipeline_class}
        return PixelDecoder(latent_map, models_dir=self.settings.models_dir, device=self.settings.device, **options)

    def _local_path(self, client: LatentClient) -> Path | None:
        """Return the directory of --decoder, or that of the model if it runs in this process; else None."""
        if self.path is not None or not isinstance(client, InProcessClient):
            return self.path
        model = self.settings.model
        if model is None:
            return None
        return next((folder for folder in (Path(model), self.settings.models_dir / model) if folder.is_dir()), None)


def _engine_of(client: InProcessClient) -> Any:
    """Return the engine of the last generation, a DiffusersEngine."""
    return client.used and client.used.engine
