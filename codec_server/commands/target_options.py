"""Options of the commands that use a model on a server or in this process. See codec_server.target.Target."""

from pathlib import Path
from typing import Annotated, Any

import typer

SERVER_PANEL = "Server"
LOCAL_PANEL = "Model in this process (without --server and --grpc)"
TIMEOUT_S = 600.0


def _option(text: str, **more: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=SERVER_PANEL, show_default=False, **more)


ServerOption = Annotated[str | None, _option("HTTP server that runs the model, as http://HOST:PORT.")]
GrpcOption = Annotated[str | None, _option("gRPC server that runs the model, as HOST:PORT.")]
ApiKeyOption = Annotated[str | None, _option("API key, sent to the server as a bearer token.", envvar="CODEC_API_KEY")]
CaFileOption = Annotated[Path | None, _option("PEM file with the certificate authority of a TLS server.")]
CertFileOption = Annotated[
    Path | None, _option("PEM file with the client's certificate, for a server that requires one.")
]
KeyFileOption = Annotated[Path | None, _option("PEM file with the private key of --cert-file.")]
TimeoutOption = Annotated[float, _option("Timeout of the whole request in seconds. Default: 600.")]
