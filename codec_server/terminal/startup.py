"""Output of `serve` and `gateway`.

Addresses and models are printed on standard output, and log messages on standard error.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from codec_server.terminal.json_log import JsonFormatter
from codec_wire.http import DECODE_PATH, GENERATION_PATHS
from codec_wire.latents import Modality
from codec_wire.version import SERVER_VERSION
from core.address import host_port, is_loopback
from core.pins import pin_differences
from core.role import Role
from core.served import ModelInstance
from core.settings import Settings

log = logging.getLogger(__name__)


def configure_log(level: str, log_format: str = "text") -> None:
    """Configure the log, so that messages of `level` and above are written to standard error.

    Libraries log only warnings unless `level` is debug. `log_format` is "text", or "json" for one JSON object in each
    line.
    """
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    if log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonFormatter())
    if level != "debug":
        for library in ("aiohttp", "asyncio", "grpc", "httpx", "huggingface_hub", "urllib3"):
            logging.getLogger(library).setLevel(logging.WARNING)


def server_url(settings: Settings, port: int) -> str:
    """Return the URL of the HTTP server that listens on `port`."""
    return f"{'http' if settings.tls_cert is None else 'https'}://{host_port(settings.host, port)}"


def print_addresses(http: str, grpc: str | None) -> None:
    """Print the version, the URL `http` of the HTTP server, and the address `grpc` (HOST:PORT) of the gRPC server.

    A gateway passes None for `grpc`, because a gateway does not have a gRPC server.
    """
    typer.echo(f"codec-diffusers {SERVER_VERSION}")
    typer.echo(f"  HTTP     {http}{GENERATION_PATHS[Modality.IMAGE]}")
    if grpc is not None:
        typer.echo(f"  gRPC     {grpc} codec.latents.v1.LatentService/Generate")


def print_models(models: Sequence[ModelInstance], http: str, seconds: float, *, needs_key: bool = False) -> None:
    """Print the served models, the loading time of the models in seconds, and example requests.

    If `needs_key` is set, the example requests contain the placeholder KEY for an API key.
    """
    for served in models:
        model, latent_map = served.model, served.bundle.latent_map
        width, height = model.default_size
        typer.echo(f"  model    {model.name}, {width}x{height}, on {served.device}")
        typer.echo(f"  latents  {latent_map.id}: {', '.join(entry.name for entry in latent_map.pipelines)}")
        typer.echo(f"  map      {served.bundle.hash}")
        if served.role is not Role.ALL:
            typer.echo(f"  role     {served.role}")
    header = " -H 'Authorization: Bearer KEY'" if needs_key else ""
    option = " --api-key KEY" if needs_key else ""
    typer.echo(f"Ready after {seconds:.1f} s. Try:")
    modalities = models[0].generated_modalities
    if not modalities:
        typer.echo(f"  curl {http}{DECODE_PATH} -o image.png{header} -H 'Accept: image/png' --data-binary @latents.bin")
        return
    path = GENERATION_PATHS[Modality.IMAGE if Modality.IMAGE in modalities else Modality.VIDEO]
    typer.echo(
        f"  curl {http}{path} -o latents.bin{header} -H 'Content-Type: application/json' \\\n"
        '    -d \'{"prompt": "a snowy mountain at dusk", "stream_format": "msgpack", "pipeline": "int8-adaptive"}\''
    )
    if models[0].model.renders and Modality.IMAGE in modalities:
        typer.echo(f"or open {http} in a browser, or write an image file:")
        typer.echo(f'  {command()} generate "a snowy mountain at dusk" --server {http}{option} -o mountain.png')


def command() -> str:
    """Return the command that starts this program, without the arguments of the command."""
    return "python -m codec_server" if Path(sys.argv[0]).name == "__main__.py" else sys.argv[0]


def warn_about_access(settings: Settings) -> None:
    """Log a warning if the server accepts requests from other hosts without authentication."""
    authenticated = settings.api_key or settings.api_keys_file or settings.tls_client_ca
    if not authenticated and not is_loopback(settings.host):
        log.warning(
            "listening on %s without API keys: every host that can reach this address can use the server; set "
            "CODEC_API_KEYS_FILE or CODEC_API_KEY, see docs/deploying.md",
            settings.host,
        )


def warn_about_versions() -> None:
    """Log a warning if torch, diffusers or transformers do not have the pinned versions."""
    differences = pin_differences()
    if differences:
        log.warning(
            "NOT THE REFERENCE: library versions differ from the pinned versions, so pixels may differ: %s",
            "; ".join(differences),
        )
