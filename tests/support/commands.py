"""Runs a command of the command line in this process."""

from typer.testing import CliRunner

from codec_server.cli import app


def invoke(*arguments: object) -> tuple[int, str]:
    """Return a command's exit status and what it wrote to stdout, or to stderr where that is all it wrote."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "160"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout or result.stderr
