"""Arguments and options of the commands that read a captured latent stream."""

from pathlib import Path
from typing import Annotated

import typer

from core.settings import Settings

MAP_PANEL = "Latent-space map"

CaptureArgument = Annotated[
    str,
    typer.Argument(help="File with the body of a response, or - for standard input.", show_default=False),
]
EncodingOption = Annotated[
    str | None,
    typer.Option(
        help="Content coding of the file: gzip, br, zstd or identity. This option is required for br. By default, "
        "the other codings are detected."
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        help="HTTP server from which the latent-space map is downloaded, as http://HOST:PORT.",
        rich_help_panel=MAP_PANEL,
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        help="API key for the server, sent as a bearer token.",
        envvar="CODEC_API_KEY",
        show_default=False,
        rich_help_panel=MAP_PANEL,
    ),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option(
        help="PEM file with the certificate authority that has signed the server's TLS certificate.",
        show_default=False,
        rich_help_panel=MAP_PANEL,
    ),
]
BundleOption = Annotated[
    Path | None,
    typer.Option(help="Directory that contains the latent-space map and its files.", rich_help_panel=MAP_PANEL),
]
ModelsDirOption = Annotated[
    Path,
    typer.Option(
        help="Directory of local models and latent-space maps.", envvar="CODEC_MODELS_DIR", rich_help_panel=MAP_PANEL
    ),
]
DOWNLOAD_HELP = "If the VAE that the latent-space map names is not on this machine, download it from Hugging Face."
MODELS_DIR = Path(Settings.model_fields["models_dir"].default)
