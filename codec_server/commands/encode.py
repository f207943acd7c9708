"""The `encode` command, which encodes an image or a video to a latent stream, on a server or in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from codec_server.commands.target_options import with_target
from codec_server.errors import report_cli_errors
from codec_wire.pipelines import PIPELINES
from codec_wire.wire_format import WireFormat


@with_target
def encode(
    file: Annotated[
        Path, typer.Argument(help="Image (PNG, JPEG or WebP) or video (MP4) to encode.", show_default=False)
    ],
    *,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="File to which the latent stream is written, or - for standard output.",
            show_default=False,
        ),
    ],
    pipeline: Annotated[
        str,
        typer.Option(
            help=f"Encoding of the latents: {', '.join(PIPELINES)}. Encodings whose name begins with delta are "
            "only for videos. Default: raw.",
            show_default=False,
        ),
    ] = "raw",
    size: Annotated[
        str | None,
        typer.Option(
            help="Size to which the image or video is scaled and cropped, as WIDTHxHEIGHT in pixels. Default: "
            "the size of the input.",
            show_default=False,
        ),
    ] = None,
    keyframe_interval: Annotated[
        int | None,
        typer.Option(
            help="Number of frames from one keyframe of a video to the next. Default: 24.", show_default=False
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed for sampling the VAE's latent distribution. By default, the mode of the distribution is "
            "used instead of a sample.",
            show_default=False,
        ),
    ] = None,
    wire_format: Annotated[
        WireFormat,
        typer.Option(
            help="Wire format of the latent stream: msgpack or protobuf. Default: msgpack.",
            metavar="<choice>",
            show_default=False,
        ),
    ] = WireFormat.MSGPACK,
    target: Mapping[str, Any],
    flags: Mapping[str, Any],
) -> None:
    """Encode an image or a video to a latent stream, on a server or with a model in this process.

    The same file and seed always give the same latents. With --server or
    --grpc, --model and --latent-space select one of the server's models.

    Examples:
      codec-diffusers encode photo.jpg -o latents.bin --pipeline int8

      codec-diffusers encode photo.jpg -o a.bin --server http://127.0.0.1:8080

    """
    with report_cli_errors():
        from codec_server.actions.encode import run_encode
        from codec_server.target import Target

        run_encode(
            file,
            output,
            Target(**target, wire_format=wire_format),
            flags,
            pipeline=pipeline,
            size=size,
            keyframe_interval=keyframe_interval,
            seed=seed,
        )
