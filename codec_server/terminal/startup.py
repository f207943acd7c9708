"""What the server says on its terminal: a few lines for people on stdout, the log on stderr."""

import logging
from collections.abc import Sequence

import typer

from codec_wire.http import GENERATION_PATHS
from codec_wire.latents import Modality
from codec_wire.version import SERVER_VERSION
from core.pins import pin_differences
from core.served import ModelInstance

log = logging.getLogger(__name__)


def configure_log(level: str) -> None:
    """Send the log to stderr, one line an entry; libraries speak from warnings on."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    if level != "debug":
        for library in ("aiohttp", "asyncio", "grpc", "httpx", "huggingface_hub", "urllib3"):
            logging.getLogger(library).setLevel(logging.WARNING)


def say(line: str) -> None:
    """Print one line for people."""
    typer.echo(line)


def say_addresses(http: str, grpc: str | None) -> None:
    """Say where the servers listen."""
    say(f"codec-diffusers {SERVER_VERSION}")
    say(f"  HTTP     http://{http}{GENERATION_PATHS[Modality.IMAGE]}")
    if grpc is not None:
        say(f"  gRPC     {grpc} codec.latents.v1.LatentService/Generate")


def say_served(models: Sequence[ModelInstance], http: str, seconds: float) -> None:
    """Say what is served, and how to see it."""
    for served in models:
        model, latent_map = served.model, served.bundle.latent_map
        width, height = model.default_size
        say(f"  model    {model.name}, {width}x{height}, on {served.device}")
        say(f"  latents  {latent_map.id}: {', '.join(entry.name for entry in latent_map.pipelines)}")
        say(f"  map      {served.bundle.hash}")
    modalities = models[0].model.modalities
    path = GENERATION_PATHS[Modality.IMAGE if Modality.IMAGE in modalities else Modality.VIDEO]
    say(f"Ready after {seconds:.1f} s. Try:")
    say(
        f"  curl http://{http}{path} -o latents.bin -H 'Content-Type: application/json' \\\n"
        '    -d \'{"prompt": "a snowy mountain at dusk", "stream_format": "msgpack", "pipeline": "int8-adaptive"}\''
    )


def warn_of_pins() -> None:
    """Log one loud line when what is installed is not what the reference is pinned to."""
    differences = pin_differences()
    if differences:
        log.warning("NOT THE REFERENCE: %s. Pixels may differ from the pinned ones.", "; ".join(differences))
