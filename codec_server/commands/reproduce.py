"""The `reproduce` command, which generates a file again and compares it with the result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from codec_server.commands.capture_options import DOWNLOAD_HELP
from codec_server.commands.target_options import with_target
from codec_server.errors import ExitStatus, report_cli_errors
from codec_wire.wire_format import WireFormat


@with_target
def reproduce(
    file: Annotated[
        Path,
        typer.Argument(
            help="File to generate again: a PNG image, or a latent stream with a .json file next to it.",
            show_default=False,
        ),
    ],
    *,
    image: Annotated[
        Path | None,
        typer.Option(
            help="Input image from which the file was generated, if the request contained an input image.",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Inpainting mask with which the file was generated, if the request contained a mask.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON on standard output.", show_default=False)
    ] = False,
    decoder: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the VAE. Default: the VAE that the latent-space map names.", show_default=False
        ),
    ] = None,
    download_decoder: Annotated[
        bool, typer.Option("--download-decoder", help=DOWNLOAD_HELP, show_default=False)
    ] = False,
    target: Mapping[str, Any],
    flags: Mapping[str, Any],
) -> None:
    """Generate a file again, and report whether the result is equal or what differs.

    The generation parameters of a PNG image are read from the image, if the
    command generate or a server has written the image. The parameters of a
    latent stream are read from the .json file that the command generate has
    written next to the stream. The report lists what has changed, e.g.
    versions, device or model. The exit status is 1 if the result differs.

    Examples:
      codec-diffusers reproduce a.png

      codec-diffusers reproduce latents.bin --server http://127.0.0.1:8080

    """
    with report_cli_errors():
        from codec_server.actions.reproduce import run_reproduce
        from codec_server.target import Target

        is_equal = run_reproduce(
            file,
            Target(**target, wire_format=WireFormat.MSGPACK),
            flags,
            image=image,
            mask=mask,
            decoder=decoder,
            download=download_decoder,
            as_json=as_json,
        )
    if not is_equal:
        raise typer.Exit(ExitStatus.FAILED)
