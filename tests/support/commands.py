"""Commands of the CLI, run in this process."""

from typer.testing import CliRunner

from codec_server.cli import app


def invoke(*arguments: object) -> tuple[int, str]:
    """Run `codec-diffusers` with `arguments`; return the exit status and the output: stdout, or stderr if it is empty.

    The terminal is 160 columns wide. Exceptions other than SystemExit fail the test.
    """
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout or result.stderr
