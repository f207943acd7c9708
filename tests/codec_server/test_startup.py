"""What `serve` prints when it is ready."""

import sys

import pytest

from codec_server.terminal.startup import command, print_models
from core.served import ModelInstance
from tests.support.fake_engine import FakeEngine
from tests.support.rendering import RENDERING
from tests.support.serving import bundle_of


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


@pytest.mark.parametrize("needs_key", [False, True])
def test_printed_requests_contain_a_key_if_keys_are_required(
    needs_key: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    served = ModelInstance(RENDERING, bundle_of(RENDERING), FakeEngine(), "test device")
    print_models([served], "http://127.0.0.1:8080", 1.0, needs_key=needs_key)
    output = capsys.readouterr().out
    assert ("-H 'Authorization: Bearer KEY'" in output) is needs_key
    assert ("--api-key KEY" in output) is needs_key
