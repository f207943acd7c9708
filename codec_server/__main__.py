"""Run the command line with `python -m codec_server`.

Without a command, `python -m codec_server` runs `serve`. For example, `python -m codec_server --host ... --model ...`
starts a server. Other Codec servers have the same options --host and --model.
"""

import sys

from codec_server.cli import main

_WITHOUT_COMMAND = ("--help", "--version")
"""Command-line options that can be given without a command."""


def with_default_command(arguments: list[str]) -> list[str]:
    """Return `arguments`, preceded by `serve` unless `arguments` begin with a command, --help or --version."""
    is_flag = not arguments or arguments[0].startswith("-")
    return (
        ["serve", *arguments] if is_flag and arguments[:1] not in ([name] for name in _WITHOUT_COMMAND) else arguments
    )


if __name__ == "__main__":
    sys.argv[1:] = with_default_command(sys.argv[1:])
    main()
