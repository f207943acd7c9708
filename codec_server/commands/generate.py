"""The `generate` command: generates an image, a video or a latent stream, on a server or in this process."""

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from codec_client import GrpcClient, HttpClient, LatentClient
from codec_pixels.vae_location import require_torch, require_vae_folder
from codec_server.commands.generate_to_file import Decoding, generate_to_file
from codec_server.errors import report_cli_errors
from codec_server.flags import with_settings
from codec_server.in_process import InProcessClient
from codec_server.terminal.output_file import OutputFile
from codec_server.terminal.progress_bar import ProgressBar
from codec_server.terminal.startup import configure_log
from codec_wire import WireFormat
from codec_wire.errors import InvalidRequest, InvalidSettings
from codec_wire.latents import Modality
from codec_wire.pipelines import PIPELINES, Scales
from codec_wire.request import DEFAULT_NUM_FRAMES
from core.settings import PREFIX, Settings, read_settings

SETTINGS = ("model", "latent_space", "models_dir", "allow_pickle", "device", "dtype", "threads", "log_level")
LOG_LEVEL = "warning"
_CALIBRATED = [spec.name for spec in PIPELINES.values() if spec.scales is Scales.STATIC]
"""Pipelines that need static scales. For the others, a model without a map is not calibrated first."""
_OUTPUT, _REQUEST, _SERVER, _WIRE = "Output", "Image or video", "Server", "Latent stream"
_LOCAL = "Model in this process (without --server and --grpc)"


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, **more)


@with_settings(SETTINGS, panel=_LOCAL, log_level=LOG_LEVEL)
def generate(
    prompt: Annotated[
        str, typer.Argument(help="Text that describes the image or video to generate.", show_default=False)
    ],
    *,
    output: Annotated[
        str,
        _option(
            _OUTPUT,
            "Output file: .png, .jpg, .webp, .gif or .mp4, or .bin for the latent stream. - writes to standard output.",
            "--output",
            "-o",
        ),
    ],
    file_format: Annotated[
        str | None, _option(_OUTPUT, "File format. Default: the extension of --output.", "--format")
    ] = None,
    as_json: Annotated[bool, _option(_OUTPUT, "Print a report as JSON on standard output.", "--json")] = False,
    decoder: Annotated[
        Path | None,
        _option(_OUTPUT, "Directory of the VAE. Default: the VAE that the latent-space map names."),
    ] = None,
    seed: Annotated[
        int | None, _option(_REQUEST, "Seed of the noise. The same seed gives the same result. Default: 42.")
    ] = None,
    size: Annotated[str | None, _option(_REQUEST, "WIDTHxHEIGHT in pixels. Default: the model's size.")] = None,
    steps: Annotated[int | None, _option(_REQUEST, "Number of sampling steps. Default: 25.")] = None,
    guidance_scale: Annotated[
        float | None,
        _option(_REQUEST, "Classifier-free guidance scale. Default: the model's."),
    ] = None,
    negative_prompt: Annotated[str | None, _option(_REQUEST, "Text that describes what to avoid.")] = None,
    image: Annotated[Path | None, _option(_REQUEST, "Image file to start from, if the model supports it.")] = None,
    strength: Annotated[
        float | None,
        _option(_REQUEST, "How much to change --image: above 0, up to 1 (ignores the image). Default: 0.8."),
    ] = None,
    video: Annotated[
        bool | None,
        _option(_REQUEST, "Generate a video. Default: on if the output is .mp4 or .gif.", "--video/--no-video"),
    ] = None,
    frames: Annotated[int | None, _option(_REQUEST, "Number of video frames. Default: 24.")] = None,
    fps: Annotated[int | None, _option(_REQUEST, "Video frames per second. Default: 24.")] = None,
    server: Annotated[str | None, _option(_SERVER, "HTTP server that generates, as http://HOST:PORT.")] = None,
    grpc: Annotated[str | None, _option(_SERVER, "gRPC server that generates, as HOST:PORT.")] = None,
    api_key: Annotated[
        str | None, _option(_SERVER, "API key, sent to the server as a bearer token.", envvar="CODEC_API_KEY")
    ] = None,
    ca_file: Annotated[
        Path | None, _option(_SERVER, "PEM file with the certificate authority of a TLS server.")
    ] = None,
    timeout_s: Annotated[float, _option(_SERVER, "Timeout of the whole generation in seconds. Default: 600.")] = 600.0,
    pipeline: Annotated[
        str | None,
        _option(
            _WIRE,
            f"Encoding of the latents: {', '.join(PIPELINES)} (delta: only for videos). Default: raw.",
        ),
    ] = None,
    keyframe_interval: Annotated[
        int | None, _option(_WIRE, "Number of frames from one keyframe of a video to the next. Default: 24.")
    ] = None,
    wire_format: Annotated[
        WireFormat,
        _option(
            _WIRE, "Format of HTTP responses and .bin files: msgpack or protobuf. Default: msgpack.", metavar="<choice>"
        ),
    ] = WireFormat.MSGPACK,
    factory: Annotated[
        str | None,
        _option(_LOCAL, "Function that returns a diffusers pipeline, as MODULE:FUNCTION. Replaces --model."),
    ] = None,
    **flags: Any,
) -> None:
    """Generate an image or a video from PROMPT, on a server or with a model in this process.

    Examples:
      codec-diffusers generate "a snowy mountain at dusk" -o a.png

      codec-diffusers generate "a desert" -o a.png --server http://127.0.0.1:8080

      codec-diffusers generate "a sea" -o b.png --image a.png --strength 0.6

      codec-diffusers generate "waves" -o a.mp4 --frames 16 --grpc 127.0.0.1:50051

      codec-diffusers generate "a desert" -o - | codec-diffusers inspect -

    """
    with report_cli_errors():
        output_file = OutputFile(output, file_format)
        if as_json and output_file.is_pipe:
            raise InvalidSettings("--json and --output - cannot be combined: both write to standard output")
        if server is not None and grpc is not None:
            raise InvalidSettings("--server and --grpc cannot be combined")
        is_video = output_file.is_video if video is None else video
        output_file.require_format_for((frames or DEFAULT_NUM_FRAMES) if is_video else 1)
        fields = {
            "modality": Modality.VIDEO if is_video else Modality.IMAGE,
            "pipeline": pipeline,
            "seed": seed,
            "size": None if size is None else parse_size(size),
            "steps": steps,
            "guidance_scale": guidance_scale,
            "negative_prompt": negative_prompt,
            "frames": frames,
            "fps": fps,
            "keyframe_interval": keyframe_interval,
            "image": None if image is None else _read_image(image),
            "strength": strength,
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        settings = _read_settings(flags, factory, pipeline)
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
        if not output_file.is_stream:  # fail before the generation rather than after it
            require_torch()
            require_vae_folder(decoder)
        with ProgressBar(Console(stderr=True)) as bar:
            decoding = Decoding(settings, decoder)
            result = asyncio.run(
                generate_to_file(
                    output_file, client, prompt, fields, decoding=decoding, wire_format=wire_format, bar=bar
                )
            )
        if as_json:
            typer.echo(json.dumps(result.report(output)))
        elif not output_file.is_pipe:
            typer.echo(f"wrote {output}, {result.bytes} bytes, in {result.seconds:.1f} s", err=True)


def parse_size(value: str) -> tuple[int, int]:
    """Return (width, height) of "WIDTHxHEIGHT". Raises InvalidRequest if `value` has another form."""
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and len(value) < 16):
        raise InvalidRequest("size", f"must be WIDTHxHEIGHT in pixels, for example 512x512, got {value!r}")
    return int(width), int(height)


def _read_settings(flags: dict[str, Any], factory: str | None, pipeline: str | None) -> Settings:
    overrides: dict[str, Any] = {"pipeline": factory}
    if pipeline not in _CALIBRATED:  # calibration takes much longer than one generation
        overrides["calibration_images"] = 0
    if f"{PREFIX}LOG_LEVEL" not in os.environ:
        overrides["log_level"] = flags["log_level"] or LOG_LEVEL
    return read_settings(flags | overrides)


def _read_image(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"--image: cannot read {path}: {error.strerror}") from None
