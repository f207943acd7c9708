"""Functions of the command `generate` that generate with any client and write the result to a file."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec_client import LatentClient
from codec_client.stream import OnPreview
from codec_pixels.parameters import REQUEST_FIELDS, Parameters, file_parameters
from codec_server.actions.decoding import Decoding
from codec_server.actions.preview_writer import PreviewWriter
from codec_server.in_process import InProcessClient
from codec_server.received_body import receive_body
from codec_server.terminal.output_file import OutputFile
from codec_server.terminal.progress_bar import ProgressBar
from codec_wire import WireFormat
from codec_wire.errors import CodecError
from codec_wire.latents import LatentStreamHeader, Modality
from codec_wire.maps.bundle import sha256
from codec_wire.request import DEFAULT_STRENGTH, GenerationRequest


@dataclass(frozen=True, slots=True)
class ReceivedLatents:
    """The latents of one generation, and the latent stream that contained the latents.

    `latents` has the shape [latent frames, C, h, w]. `body` is the uncompressed stream. `received_bytes` is the number
    of bytes received over the network, or None if the model runs in this process. `parameters` are the generation
    parameters that the server reports.
    """

    request: GenerationRequest
    header: LatentStreamHeader
    latents: NDArray[Any]
    body: bytes
    map_hash: str | None
    received_bytes: int | None
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """A written file, with the file's size in bytes, the embedded parameters, and the duration of the whole command."""

    received: ReceivedLatents
    bytes: int
    parameters: Parameters
    seconds: float

    def report(self, output: str) -> dict[str, Any]:
        """Return the report that the command `generate --json` prints."""
        header = self.received.header
        return {
            "output": output,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "latent_space": header.latent_space_id,
            "latent_map": self.received.map_hash,
            "shape": list(header.shape),
            "pipeline": header.pipeline,
            "frames": len(self.received.latents),
            "fps": header.fps,
            "stream_bytes": len(self.received.body),
            "received_bytes": self.received.received_bytes,
            "parameters": self.parameters,
        }


async def generate_to_file(
    output_file: OutputFile,
    client: LatentClient,
    prompt: str,
    fields: dict[str, Any],
    *,
    decoding: Decoding,
    wire_format: WireFormat,
    bar: ProgressBar,
    preview: bool,
) -> GeneratedFile:
    """Generate with `client` and write the image, video or stream to `output_file`.

    `fields` are the fields of the request. If `preview` is True, previews are written to the file while the model
    samples. Raises the errors of LatentStream if the generation fails. Raises the errors of PixelDecoder if the latents
    cannot be decoded, and the errors of OutputFile if the file cannot be written.
    """
    started = time.perf_counter()
    async with client:
        if isinstance(client, InProcessClient):
            bar.set_status("loading the model")
            await client.load(fields["modality"])
        bar.set_status("waiting")
        writer = PreviewWriter(output_file, decoding, client, bar) if preview else None
        received = await receive_latents(client, prompt, fields, wire_format, bar, previews=writer)
        output_file.require_format_for(len(received.latents))
        if output_file.is_stream:
            return _write_stream(output_file, received, started)
        bar.set_status("decoding")
        frames = await decoding.frames(received.latents, received.map_hash, client)
        model = received.parameters.get("model") or await _find_model(client, received)
        parameters = file_parameters(
            received.header,
            received.map_hash,
            frames.shape,
            _request_parameters(received.request, model),
            received.parameters,
        )
        bar.set_status("writing")
        written = await asyncio.to_thread(output_file.write_frames, frames, received.header.fps, parameters)
        return GeneratedFile(received, written, parameters, time.perf_counter() - started)


async def receive_latents(
    client: LatentClient,
    prompt: str,
    fields: dict[str, Any],
    wire_format: WireFormat,
    bar: ProgressBar,
    *,
    previews: PreviewWriter | None = None,
) -> ReceivedLatents:
    """Generate with `client` and return the latents. `fields` are the fields of the request.

    `previews` is the writer of the previews, or None if no previews are requested.
    """
    on_preview: OnPreview | None = None
    if previews is not None:
        on_preview, fields = previews.add, {"preview_every": previews.interval(fields)} | fields
    async with client.stream(prompt, on_progress=bar.update, on_preview=on_preview, **fields) as stream:
        async with nullcontext() if previews is None else previews.writing(stream.map_hash):
            body, latents = await receive_body(stream, wire_format)
        received_bytes = None if isinstance(client, InProcessClient) else stream.progress.received_bytes
        return ReceivedLatents(
            stream.request,
            stream.header,
            np.stack(latents),
            body,
            stream.map_hash,
            received_bytes,
            stream.parameters,
        )


def _write_stream(output_file: OutputFile, received: ReceivedLatents, started: float) -> GeneratedFile:
    """Write the latent stream in `received` to `output_file`.

    If the server reports generation parameters, the parameters are written to a JSON file next to the stream.
    """
    written = output_file.write(received.body)
    parameters: Parameters = {}
    if received.parameters and not output_file.is_pipe:
        inputs = request_inputs(received.request)
        parameters = {name: value for name, value in inputs.items() if value is not None} | dict(received.parameters)
        output_file.write_parameters(parameters)
    return GeneratedFile(received, written, parameters, time.perf_counter() - started)


def request_inputs(request: GenerationRequest) -> dict[str, str | None]:
    """Return the prompts of `request`, and the hashes of the input images and of the input latents.

    The server reports neither the prompts nor the hashes of the inputs.
    """
    images = {name: getattr(request, name) for name in ("image", "control_image", "mask", "latents")}
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        **{name: None if data is None else sha256(data) for name, data in images.items()},
    }


async def _find_model(client: LatentClient, received: ReceivedLatents) -> str | None:
    """Return the name of the model that generated the latents, or None if the server does not report the model."""
    request = received.request
    with suppress(CodecError):
        for model in await client.models():
            if (
                received.map_hash == model.map_hash
                and request.modality in model.modalities
                and request.model in (None, model.name, *model.aliases)
            ):
                return model.name
    return None


def _request_parameters(request: GenerationRequest, model: str | None) -> dict[str, Any]:
    """Return the generation parameters that are taken from the request.

    `model` is the name of the model, or None if the name is unknown.
    """
    values = {name: getattr(request, name, None) for name in REQUEST_FIELDS} | {"model": model or request.model}
    # strength applies to image-to-image requests only, where it has a default.
    if (request.image is None and request.latents is None) or request.modality is Modality.VIDEO:
        values["strength"] = None
    elif request.strength is None:
        values["strength"] = DEFAULT_STRENGTH
    return values
