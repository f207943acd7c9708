"""`codec-diffusers generate`: from a prompt to a picture, a video or a latent stream; by a server or in process."""

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from codec_client import GrpcClient, HttpClient, LatentClient
from codec_pixels.vae_location import require_vae_folder, require_torch
from codec_server.commands.generate_to_file import Decoding, generate_to
from codec_server.errors import report_cli_errors
from codec_server.flags import with_settings
from codec_server.in_process import InProcessClient
from codec_server.terminal.output_file import Output
from codec_server.terminal.progress_bar import ProgressBar
from codec_server.terminal.startup import configure_log
from codec_wire import WireFormat
from codec_wire.errors import InvalidRequest, InvalidSettings
from codec_wire.latents import Modality
from core.settings import PREFIX, Settings, read_settings

SETTINGS = ("model", "latent_space", "models_dir", "allow_pickle", "device", "dtype", "threads", "log_level")
LOG_LEVEL = "warning"
_CALIBRATED = ("int8", "int4")
"""Pipelines that need a map with scales: for the others a model without a map need not be calibrated first."""
_WHAT, _WHERE, _WIRE, _HERE = "What is drawn", "Where", "How latents travel", "With a model in this process"


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


@with_settings(SETTINGS, panel=_HERE, log_level=LOG_LEVEL)
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.", show_default=False)],
    *,
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="File: .png .jpg .webp .gif .mp4, or .bin for the stream. -: a pipe."),
    ],
    file_format: Annotated[str | None, typer.Option("--format", help="Instead of what the file's name says.")] = None,
    decoder: Annotated[Path | None, typer.Option(help="Folder of the VAE. Default: what the map names.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say what was made as JSON, on standard output.")] = False,
    seed: Annotated[int | None, _option(_WHAT, "Seed of the noise. Default: 42.")] = None,
    size: Annotated[str | None, _option(_WHAT, "WIDTHxHEIGHT in pixels. Default: the model's own.")] = None,
    steps: Annotated[int | None, _option(_WHAT, "Sampler steps. Default: 25.")] = None,
    guidance_scale: Annotated[float | None, _option(_WHAT, "Weight of the prompt. Default: the model's own.")] = None,
    negative_prompt: Annotated[str | None, _option(_WHAT, "What to keep out.")] = None,
    image: Annotated[Path | None, _option(_WHAT, "Picture to start from, where the model takes one.")] = None,
    strength: Annotated[
        float | None, _option(_WHAT, "How far from --image the result may be, above 0 to 1. Default: 0.8.")
    ] = None,
    video: Annotated[
        bool | None, _option(_WHAT, "Make a video. Default: where the file is .mp4 or .gif.", "--video/--no-video")
    ] = None,
    frames: Annotated[int | None, _option(_WHAT, "Video: number of frames. Default: 24.")] = None,
    fps: Annotated[int | None, _option(_WHAT, "Video: frames per second. Default: 24.")] = None,
    server: Annotated[str | None, _option(_WHERE, "Generate on the HTTP server http://HOST:PORT.")] = None,
    grpc: Annotated[str | None, _option(_WHERE, "Generate on the gRPC server HOST:PORT.")] = None,
    api_key: Annotated[str | None, _option(_WHERE, "Sent as a bearer token.", envvar="CODEC_API_KEY")] = None,
    ca_file: Annotated[Path | None, _option(_WHERE, "PEM file of a TLS server's certificate authority.")] = None,
    timeout_s: Annotated[float, _option(_WHERE, "Seconds for the whole generation.")] = 600.0,
    pipeline: Annotated[str | None, _option(_WIRE, "raw, int8, int4-adaptive, ... Default: raw.")] = None,
    keyframe_interval: Annotated[int | None, _option(_WIRE, "Video: frames between keyframes.")] = None,
    wire_format: Annotated[WireFormat, _option(_WIRE, "Of the stream, in .bin and over HTTP.")] = WireFormat.MSGPACK,
    factory: Annotated[str | None, _option(_HERE, "module:function that returns a diffusers pipeline.")] = None,
    **flags: Any,
) -> None:
    """Generate a picture or a video from PROMPT: on --server or --grpc, or with a model in this process.

    Examples:
      codec-diffusers generate "a snowy mountain at dusk" -o a.png

      codec-diffusers generate "a snowy mountain at dusk" -o a.png --server http://127.0.0.1:8080 --pipeline int8

      codec-diffusers generate "a sea at night" -o b.png --image a.png --strength 0.6

      codec-diffusers generate "waves" -o waves.mp4 --frames 16 --grpc 127.0.0.1:50051

      codec-diffusers generate "a desert" -o - --server http://127.0.0.1:8080 | codec-diffusers inspect -

    """
    with report_cli_errors():
        place = Output(output, file_format)
        if as_json and place.is_pipe:
            raise InvalidSettings("--json and -o - both write to standard output")
        if server is not None and grpc is not None:
            raise InvalidSettings("give either --server or --grpc, got both")
        moving = place.is_video if video is None else video
        place.require_room_for((frames or 2) if moving else 1)
        fields = {
            "modality": Modality.VIDEO if moving else Modality.IMAGE,
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
            "strength": strength,
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        settings = _settings(flags, factory, pipeline)
        configure_log(settings.log_level)
        client: LatentClient
        options: dict[str, Any] = {"api_key": api_key, "timeout_s": timeout_s}
        if server is not None:
            client = HttpClient(server, wire_format=wire_format, ca_file=ca_file, **options)
        elif grpc is not None:
            client = GrpcClient(grpc, ca_file=ca_file, **options)
        else:
            client = InProcessClient(settings, **options)
        if flags["model"] is not None and not isinstance(client, InProcessClient):
            fields["model"] = flags["model"]
        if not place.is_stream:  # before a generation is waited for that nothing can be made of
            require_torch()
            require_vae_folder(decoder)
        with ProgressBar(Console(stderr=True)) as bar:
            decoding = Decoding(settings, decoder)
            written = asyncio.run(
                generate_to(place, client, prompt, fields, decoding=decoding, wire_format=wire_format, bar=bar)
            )
        if as_json:
            typer.echo(json.dumps(written.report(output)))
        elif not place.is_pipe:
            typer.echo(f"wrote {output}, {written.bytes} bytes, in {written.seconds:.1f} s", err=True)


def parse_size(value: str) -> tuple[int, int]:
    """Return (width, height) of "WIDTHxHEIGHT". Raises InvalidRequest."""
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and len(value) < 16):
        raise InvalidRequest("size", f'must be "WIDTHxHEIGHT" in pixels, e.g. "512x512", got {value!r}')
    return int(width), int(height)


def _settings(flags: dict[str, Any], factory: str | None, pipeline: str | None) -> Settings:
    own: dict[str, Any] = {"pipeline": factory}
    if pipeline not in _CALIBRATED:  # what takes longest, and most pictures do not need
        own["calibration_images"] = 0
    if f"{PREFIX}LOG_LEVEL" not in os.environ:
        own["log_level"] = flags["log_level"] or LOG_LEVEL
    return read_settings(flags | own)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {error.strerror}") from None
