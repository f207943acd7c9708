"""What `serve` prints when it is ready."""

import sys

import pytest

from codec_server.terminal.startup import command


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (".venv/bin/codec-diffusers", ".venv/bin/codec-diffusers"),
        ("/checkout/codec_server/__main__.py", "python -m codec_server"),
    ],
)
def test_printed_command_can_be_typed_again(argument: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [argument])
    assert command() == expected
