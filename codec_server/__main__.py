"""Run the command line with `python -m codec_server`.

Without a command, `python -m codec_server` runs `serve`. For example, `python -m codec_server --host ... --model ...`
starts a server. The options --host and --model are the same as those of other Codec servers.
"""

import sys

from codec_server.cli import main

_WITHOUT_COMMAND = ("--help", "--version")
"""Options of the command line that need no command."""


def with_default_command(arguments: list[str]) -> list[str]:
    """Return `arguments` with the command `serve` in front, unless they begin with a command, --help or --version."""
    is_flag = not arguments or arguments[0].startswith("-")
    return (
        ["serve", *arguments] if is_flag and arguments[:1] not in ([name] for name in _WITHOUT_COMMAND) else arguments
    )


if __name__ == "__main__":
    sys.argv[1:] = with_default_command(sys.argv[1:])
    main()
