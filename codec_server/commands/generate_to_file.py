"""What `generate` does once it knows what is asked for: one generation by any client, and a file of it."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec_client import LatentClient, PixelDecoder
from codec_pixels.parameters import REQUEST_FIELDS, Parameters, file_parameters
from codec_server.in_process import InProcessClient
from codec_server.terminal.output_file import Output
from codec_server.terminal.progress_bar import ProgressBar
from codec_wire import WireFormat, encode
from codec_wire.errors import CodecError
from codec_wire.latents import LatentStreamHeader, Modality
from codec_wire.request import DEFAULT_STRENGTH, GenerationRequest
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class Made:
    """What was generated, and what it took.

    `body` is the stream without compression; `received_bytes` is what came of it over a wire, None in process.
    """

    request: GenerationRequest
    header: LatentStreamHeader
    latents: NDArray[Any]
    body: bytes
    map_hash: str | None
    received_bytes: int | None


@dataclass(frozen=True, slots=True)
class Written:
    """What was generated, the file's size in bytes, what its pictures were made with, and how long all of it took."""

    made: Made
    bytes: int
    parameters: Parameters
    seconds: float

    def report(self, output: str) -> dict[str, Any]:
        """Return it as `generate --json` prints it."""
        header = self.made.header
        return {
            "output": output,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "latent_space": header.latent_space_id,
            "latent_map": self.made.map_hash,
            "shape": list(header.shape),
            "pipeline": header.pipeline,
            "frames": len(self.made.latents),
            "fps": header.fps,
            "stream_bytes": len(self.made.body),
            "received_bytes": self.made.received_bytes,
            "parameters": self.parameters,
        }


@dataclass(frozen=True, slots=True)
class Decoding:
    """Where the VAE is looked for: in the directory `place`, for None where the map says, and on what it runs."""

    settings: Settings
    place: Path | None

    def frames(self, made: Made, latent_map: Any, client: LatentClient) -> NDArray[np.uint8]:
        """Return the pictures; the loaded pipeline's own VAE is taken where it came from no directory."""
        own = self._own_place(client)
        vae = client.used.engine.vae if own is _OF_PIPELINE else None  # type: ignore[attr-defined]
        pixels = PixelDecoder(
            latent_map,
            place=None if own is _OF_PIPELINE else own,
            models_dir=self.settings.models_dir,
            device=self.settings.device,
            vae=vae,
        )
        return pixels.frames(made.latents)

    def _own_place(self, client: LatentClient) -> Path | None:
        if self.place is not None or not isinstance(client, InProcessClient):
            return self.place
        for folder in (Path(self.settings.model or ""), self.settings.models_dir / (self.settings.model or "")):
            if self.settings.model is not None and folder.is_dir():
                return folder
        return _OF_PIPELINE


_OF_PIPELINE = Path("the loaded pipeline")


async def generate_to(
    place: Output,
    client: LatentClient,
    prompt: str,
    fields: dict[str, Any],
    *,
    decoding: Decoding,
    wire_format: WireFormat,
    bar: ProgressBar,
) -> Written:
    """Generate with `client`, write to `place`, and return what was done. Raises what each of them raises."""
    started = time.perf_counter()
    async with client:
        if isinstance(client, InProcessClient):
            bar.say("loading the model")
            await client.load()
        bar.say("waiting")
        made = await _made(client, prompt, fields, wire_format, bar)
        place.require_room_for(len(made.latents))
        if place.is_stream:
            return Written(made, place.write(made.body), {}, time.perf_counter() - started)
        bar.say("decoding")
        latent_map = None if decoding.place is not None else (await client.latent_map(made.map_hash)).latent_map
        frames = await asyncio.to_thread(decoding.frames, made, latent_map, client)
        model = await _model_of(client, made)
        parameters = file_parameters(made.header, made.map_hash, frames.shape, _request_parameters(made.request, model))
        bar.say("writing")
        written = await asyncio.to_thread(place.write_frames, frames, made.header.fps, parameters)
        return Written(made, written, parameters, time.perf_counter() - started)


async def _made(
    client: LatentClient, prompt: str, fields: dict[str, Any], wire_format: WireFormat, bar: ProgressBar
) -> Made:
    async with client.stream(prompt, on_progress=bar.show, **fields) as stream:
        parts, latents = [encode(stream.header, wire_format)], []
        async for latent in stream:
            latents.append(latent)
            if stream.frame is not None:
                parts.append(encode(stream.frame, wire_format))
        body = b"".join(parts)
        received = None if isinstance(client, InProcessClient) else stream.progress.received_bytes
        return Made(stream.request, stream.header, np.stack(latents), body, stream.map_hash, received)


async def _model_of(client: LatentClient, made: Made) -> str | None:
    """Return the name of the model that answered, None where the server does not say."""
    asked = made.request
    with suppress(CodecError):
        for model in await client.models():
            if (
                made.map_hash == model.map_hash
                and asked.modality in model.modalities
                and asked.model in (None, model.name, *model.aliases)
            ):
                return model.name
    return None


def _request_parameters(request: GenerationRequest, model: str | None) -> dict[str, Any]:
    """Return the request's part of the file's parameters; `model` is the one that ran, if it is known."""
    values = {name: getattr(request, name, None) for name in REQUEST_FIELDS} | {"model": model or request.model}
    # An image-to-video request has no strength; an image-to-image request has a default.
    if request.image is None or request.modality is Modality.VIDEO:
        values["strength"] = None
    elif request.strength is None:
        values["strength"] = DEFAULT_STRENGTH
    return values
