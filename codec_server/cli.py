"""The `codec-diffusers` command line, which consists of the commands in the table COMMANDS."""

from typing import Annotated

import typer

from codec_server.errors import EXIT_STATUS_HELP
from codec_server.lazy_commands import LazyCommand, lazy_group
from codec_wire.version import SERVER_VERSION

_COMMANDS = "codec_server.commands"
COMMANDS = {
    "generate": LazyCommand(
        f"{_COMMANDS}.generate",
        "generate",
        "Generate an image or a video from PROMPT, on a server or with a model in this process.",
        EXIT_STATUS_HELP,
    ),
    "decode": LazyCommand(
        f"{_COMMANDS}.decode", "decode", "Decode a captured latent stream to an image or a video.", EXIT_STATUS_HELP
    ),
    "encode": LazyCommand(
        f"{_COMMANDS}.encode",
        "encode",
        "Encode an image or a video to a latent stream, on a server or with a model in this process.",
        EXIT_STATUS_HELP,
    ),
    "reproduce": LazyCommand(
        f"{_COMMANDS}.reproduce",
        "reproduce",
        "Generate a file again, and report whether the result is equal or what differs.",
        EXIT_STATUS_HELP,
    ),
    "inspect": LazyCommand(
        f"{_COMMANDS}.inspect",
        "inspect",
        "Print the header, the frames and the first error of a captured latent stream.",
        EXIT_STATUS_HELP,
    ),
    "doctor": LazyCommand(
        f"{_COMMANDS}.doctor",
        "doctor",
        "Check whether this machine can serve a model: versions, device, memory, ports and one generation.",
        EXIT_STATUS_HELP,
    ),
    "serve": LazyCommand(f"{_COMMANDS}.serve", "serve", "Serve a model over gRPC and HTTP, in one process."),
    "gateway": LazyCommand(
        f"{_COMMANDS}.gateway",
        "gateway",
        "Serve HTTP in front of remote gRPC servers. The command does not need torch.",
    ),
    "map": LazyCommand(
        f"{_COMMANDS}.map", "app", "Build, show and verify latent-space maps, which describe the format of latents."
    ),
    "golden": LazyCommand(f"{_COMMANDS}.golden", "app", "Build reference images, and evaluate decoders against them."),
}
"""The commands in the order in which --help lists them."""

app = typer.Typer(
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Run diffusers pipelines and stream latents instead of pixels, over gRPC and HTTP.",
    epilog='To start: codec-diffusers generate "a snowy mountain at dusk" -o a.png',
)


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
