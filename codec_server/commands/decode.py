"""The `decode` command, which decodes a captured latent stream to an image or a video."""

from pathlib import Path
from typing import Annotated

import typer

from codec_server.commands.capture_options import (
    DOWNLOAD_HELP,
    MODELS_DIR,
    ApiKeyOption,
    BundleOption,
    CaFileOption,
    CaptureArgument,
    EncodingOption,
    ModelsDirOption,
    ServerOption,
)
from codec_server.errors import report_cli_errors


def decode(
    capture: CaptureArgument,
    *,
    output: Annotated[str, typer.Option("--output", "-o", help="Output file: .png, .jpg, .webp, .gif or .mp4.")],
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="Format of the output file. Default: the extension of --output."),
    ] = None,
    encoding: EncodingOption = None,
    on_server: Annotated[
        bool,
        typer.Option(
            "--on-server",
            help="Decode on the HTTP server that --server names. This machine then needs neither torch nor a VAE.",
        ),
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            help="torch device, e.g. cpu, cuda or cuda:1. 'auto' selects a GPU if the machine has one, otherwise the "
            "CPU."
        ),
    ] = "auto",
    server: ServerOption = None,
    api_key: ApiKeyOption = None,
    ca_file: CaFileOption = None,
    bundle: BundleOption = None,
    models_dir: ModelsDirOption = MODELS_DIR,
    decoder: Annotated[
        Path | None,
        typer.Option(help="Directory of the VAE. Default: the VAE that the latent-space map names."),
    ] = None,
    download_decoder: Annotated[bool, typer.Option("--download-decoder", help=DOWNLOAD_HELP)] = False,
) -> None:
    """Decode a captured latent stream to an image or a video.

    The latents are decoded on this machine, unless --on-server is given.
    Without --on-server, --server is only used to download the latent-space
    map.

    Examples:
      codec-diffusers decode latents.bin -o a.png --models-dir ./models

      codec-diffusers decode waves.bin -o waves.mp4 --server http://127.0.0.1:8080

      codec-diffusers decode a.bin -o a.png --server http://... --on-server

    """
    with report_cli_errors():
        from codec_server.captures import MapSources

        sources = MapSources(server, api_key, ca_file, bundle, models_dir)
        if on_server:
            from codec_server.actions.decode_on_server import decode_on_server

            decode_on_server(
                capture,
                output,
                file_format=file_format,
                encoding=encoding,
                sources=sources,
                has_local_decoder=decoder is not None or download_decoder,
            )
            return
        from codec_server.actions.decode import run_decode

        run_decode(
            capture,
            output,
            file_format=file_format,
            encoding=encoding,
            device=device,
            sources=sources,
            decoder=decoder,
            download=download_decoder,
        )
