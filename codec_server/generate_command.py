"""`codec-diffusers generate`: from a prompt to a picture, a video or a latent stream; by a server or in process."""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from codec_client import GrpcClient, HttpClient, LatentClient, PixelDecoder
from codec_server.errors import said_in_a_line
from codec_server.flags import with_settings
from codec_server.in_process import InProcessClient
from codec_server.output import configure_log
from codec_server.picture_files import Output
from codec_server.progress_bar import ProgressBar
from codec_wire import WireFormat, encode
from core.errors import InvalidRequest, InvalidSettings
from core.latents import LatentStreamHeader, Modality
from core.settings import Settings, read_settings

SETTINGS = ("model", "latent_space", "models_dir", "allow_pickle", "device", "dtype", "threads", "log_level")
_CALIBRATED = ("int8", "int4")
"""Pipelines that need a map with scales: for the others a model without a map need not be calibrated first."""


@dataclass(frozen=True, slots=True)
class _Made:
    """What was generated, and what it took."""

    header: LatentStreamHeader
    latents: NDArray[Any]
    body: bytes
    map_hash: str | None
    received_bytes: int


@with_settings(SETTINGS)
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    *,
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="File: .png .jpg .webp .gif .mp4, or .bin for the stream. -: a pipe."),
    ],
    server: Annotated[str | None, typer.Option(help="Generate on the HTTP server http://HOST:PORT.")] = None,
    grpc: Annotated[str | None, typer.Option(help="Generate on the gRPC server HOST:PORT.")] = None,
    video: Annotated[bool, typer.Option("--video", help="Make a video.")] = False,
    pipeline: Annotated[str | None, typer.Option(help="How latents travel: raw, int8, int4-adaptive, ...")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the noise. Default: 42.")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels. Default: the model's own.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampler steps. Default: 25.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Weight of the prompt.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What to keep out.")] = None,
    frames: Annotated[int | None, typer.Option(help="Video: number of frames. Default: 24.")] = None,
    fps: Annotated[int | None, typer.Option(help="Video: frames per second. Default: 24.")] = None,
    keyframe_interval: Annotated[int | None, typer.Option(help="Video: frames between keyframes.")] = None,
    image: Annotated[Path | None, typer.Option(help="Picture to start from, where the model takes one.")] = None,
    decoder: Annotated[Path | None, typer.Option(help="Folder of the VAE. Default: what the map names.")] = None,
    file_format: Annotated[str | None, typer.Option("--format", help="Instead of what the file's name says.")] = None,
    wire_format: Annotated[WireFormat, typer.Option(help="Of the stream, in .bin and over HTTP.")] = WireFormat.MSGPACK,
    api_key: Annotated[str | None, typer.Option(envvar="CODEC_API_KEY", help="Sent as a bearer token.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="PEM file of a TLS server's certificate authority.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds for the whole generation.")] = 600.0,
    factory: Annotated[str | None, typer.Option(help="In process: module:function that returns a pipeline.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was made as JSON, on standard output.")] = False,
    **flags: Any,
) -> None:
    """Generate a picture or a video from PROMPT: on --server or --grpc, or with a model in this process.

    Examples:
      codec-diffusers generate "a snowy mountain at dusk" -o a.png

      codec-diffusers generate "a snowy mountain at dusk" -o a.png --server http://127.0.0.1:8080 --pipeline int8

      codec-diffusers generate "waves" --video --frames 16 -o waves.mp4 --grpc 127.0.0.1:50051

      codec-diffusers generate "a desert" -o - --server http://127.0.0.1:8080 | codec-diffusers inspect -

    """
    with said_in_a_line():
        place = Output(output, file_format)
        if as_json and place.is_pipe:
            raise InvalidSettings("--json and -o - both write to standard output")
        fields = {
            "modality": Modality.VIDEO if video else Modality.IMAGE,
            "pipeline": pipeline,
            "seed": seed,
            "size": None if size is None else parse_size(size),
            "steps": steps,
            "guidance_scale": guidance_scale,
            "negative_prompt": negative_prompt,
            "frames": frames,
            "fps": fps,
            "keyframe_interval": keyframe_interval,
            "image": None if image is None else _read(image),
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        place.require_room_for((frames or 2) if video else 1)
        # What calibration would take longest, most pictures do not need.
        images = None if pipeline in _CALIBRATED else 0
        settings = read_settings(
            flags | {"pipeline": factory, "calibration_images": images, "log_level": flags["log_level"] or "warning"}
        )
        configure_log(settings.log_level)
        options: dict[str, Any] = {"api_key": api_key, "timeout_s": timeout_s}
        client: LatentClient
        if server is not None and grpc is not None:
            raise InvalidSettings("give either --server or --grpc, got both")
        if server is not None:
            client = HttpClient(server, wire_format=wire_format, ca_file=ca_file, **options)
        elif grpc is not None:
            client = GrpcClient(grpc, ca_file=ca_file, **options)
        else:
            client = InProcessClient(settings, **options)
        if flags["model"] is not None and not isinstance(client, InProcessClient):
            fields["model"] = flags["model"]
        started = time.perf_counter()
        with ProgressBar(Console(stderr=True)) as bar:
            written, made = asyncio.run(
                _run(
                    client,
                    prompt,
                    fields,
                    place=place,
                    decoding=_Decoding(settings, decoder),
                    wire_format=wire_format,
                    bar=bar,
                )
            )
        if as_json:
            report = _report(made, output, written, time.perf_counter() - started)
            typer.echo(json.dumps(report))
        elif not place.is_pipe:
            typer.echo(f"wrote {output}, {written} bytes, in {time.perf_counter() - started:.1f} s", err=True)


@dataclass(frozen=True, slots=True)
class _Decoding:
    """Where the VAE is looked for."""

    settings: Settings
    place: Path | None

    def frames(self, made: _Made, latent_map: Any, client: LatentClient) -> NDArray[np.uint8]:
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


async def _run(
    client: LatentClient,
    prompt: str,
    fields: dict[str, Any],
    *,
    place: Output,
    decoding: _Decoding,
    wire_format: WireFormat,
    bar: ProgressBar,
) -> tuple[int, _Made]:
    async with client:
        if isinstance(client, InProcessClient):
            bar.say("loading the model")
            await client.load()
        bar.say("waiting")
        made = await _generated(client, prompt, fields, wire_format, bar)
        place.require_room_for(len(made.latents))
        if place.is_stream:
            return place.write(made.body), made
        bar.say("decoding")
        latent_map = None if decoding.place is not None else (await client.latent_map(made.map_hash)).latent_map
        frames = await asyncio.to_thread(decoding.frames, made, latent_map, client)
        return place.write_frames(frames, made.header.fps), made


async def _generated(
    client: LatentClient, prompt: str, fields: dict[str, Any], wire_format: WireFormat, bar: ProgressBar
) -> _Made:
    async with client.stream(prompt, on_progress=bar.show, **fields) as stream:
        parts, latents = [encode(stream.header, wire_format)], []
        async for latent in stream:
            latents.append(latent)
            if stream.frame is not None:
                parts.append(encode(stream.frame, wire_format))
        body = b"".join(parts)
        received = stream.progress.received_bytes
        return _Made(stream.header, np.stack(latents), body, stream.map_hash, received)


def parse_size(value: str) -> tuple[int, int]:
    """Return (width, height) of "WIDTHxHEIGHT". Raises InvalidRequest."""
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and len(value) < 16):
        raise InvalidRequest("size", f'must be "WIDTHxHEIGHT" in pixels, e.g. "512x512", got {value!r}')
    return int(width), int(height)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {error.strerror}") from None


def _report(made: _Made, output: str, written: int, seconds: float) -> dict[str, Any]:
    header = made.header
    return {
        "output": output,
        "bytes": written,
        "seconds": round(seconds, 3),
        "latent_space": header.latent_space_id,
        "latent_map": made.map_hash,
        "shape": list(header.shape),
        "pipeline": header.pipeline,
        "frames": len(made.latents),
        "fps": header.fps,
        "stream_bytes": len(made.body),
        "received_bytes": made.received_bytes,
    }
