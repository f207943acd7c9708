"""The command line: every command of `codec-diffusers`."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from codec_server.commands import golden as golden_commands
from codec_server.commands import map as map_commands
from codec_server.commands.capture import decode, inspect
from codec_server.commands.doctor import doctor
from codec_server.commands.gateway import SETTINGS as GATEWAY_SETTINGS
from codec_server.commands.gateway import run_gateway
from codec_server.commands.generate import generate
from codec_server.commands.serve import serve as serve_model
from codec_server.errors import EXIT_STATUS_HELP, report_cli_errors
from codec_server.flags import with_settings
from codec_server.terminal.startup import configure_log
from codec_wire.version import SERVER_VERSION
from core.settings import Settings, read_settings, unknown_variables

log = logging.getLogger(__name__)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Runs diffusers pipelines and streams latents instead of pixels, over gRPC and HTTP.",
    epilog='Begin with: codec-diffusers generate "a snowy mountain at dusk" -o a.png',
)


app.add_typer(map_commands.app, name="map")
app.command(epilog=EXIT_STATUS_HELP)(generate)
app.command(epilog=EXIT_STATUS_HELP)(decode)
app.command(epilog=EXIT_STATUS_HELP)(inspect)
app.command(epilog=EXIT_STATUS_HELP)(doctor)
app.add_typer(golden_commands.app, name="golden")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(SERVER_VERSION)
        raise typer.Exit


@app.command()
@with_settings(name for name in Settings.model_fields if name not in ("upstream", "lpips_backbone"))
def serve(**flags: Any) -> None:
    """Serve a model over gRPC and HTTP, in one process.

    Example: codec-diffusers serve --model stabilityai/stable-diffusion-2-1 --models-dir ./models
    """
    _run(flags, serve_model)


@app.command()
@with_settings(GATEWAY_SETTINGS)
def gateway(**flags: Any) -> None:
    """Serve HTTP over a gRPC server elsewhere. Needs no torch here.

    Example: codec-diffusers gateway --upstream 10.0.0.7:50051 --port 8080
    """
    _run(flags, run_gateway)


def _run(flags: dict[str, Any], main_of: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    """Read the settings and run."""
    with report_cli_errors():
        settings = read_settings(flags)
        configure_log(settings.log_level)
        for warning in unknown_variables():
            log.warning("%s", warning)
        asyncio.run(main_of(settings))


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
