"""The `codec-diffusers` command line: assembles the commands."""

from typing import Annotated

import typer

from codec_server.commands import golden as golden_commands
from codec_server.commands import map as map_commands
from codec_server.commands.decode import decode
from codec_server.commands.doctor import doctor
from codec_server.commands.gateway import gateway
from codec_server.commands.generate import generate
from codec_server.commands.inspect import inspect
from codec_server.commands.serve import serve
from codec_server.errors import EXIT_STATUS_HELP
from codec_wire.version import SERVER_VERSION

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Run diffusers pipelines and stream latents instead of pixels, over gRPC and HTTP.",
    epilog='To start: codec-diffusers generate "a snowy mountain at dusk" -o a.png',
)
app.command(epilog=EXIT_STATUS_HELP)(generate)
app.command(epilog=EXIT_STATUS_HELP)(decode)
app.command(epilog=EXIT_STATUS_HELP)(inspect)
app.command(epilog=EXIT_STATUS_HELP)(doctor)
app.command()(serve)
app.command()(gateway)
app.add_typer(map_commands.app, name="map")
app.add_typer(golden_commands.app, name="golden")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(SERVER_VERSION)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    app()
