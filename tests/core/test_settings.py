"""Settings: CODEC_* variables, command-line flags, and error messages."""

import os
from pathlib import Path

import pytest

from codec_wire.errors import InvalidSettings
from core.settings import read_settings, unknown_variables


@pytest.fixture(autouse=True)
def no_codec_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("CODEC_"):
            monkeypatch.delenv(name)


def test_defaults_apply_without_variables_and_flags() -> None:
    settings = read_settings({})
    assert (settings.model, settings.port, settings.grpc_port) == (None, 8080, 50051)
    assert settings.models_dir == Path("/models")


def test_flags_take_precedence_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEC_MODEL", "a/b")
    monkeypatch.setenv("CODEC_PORT", "9000")
    settings = read_settings({"port": 9001, "host": None})
    assert (settings.model, settings.port, settings.host) == ("a/b", 9001, "127.0.0.1")


@pytest.mark.parametrize(
    ("variable", "field"), [("CODEC_INITIAL_MODEL", "model"), ("CODEC_INITIAL_LATENT_SPACE", "latent_space")]
)
def test_variable_names_of_other_codec_servers_are_accepted(
    variable: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "x/y")
    assert getattr(read_settings({}), field) == "x/y"
    assert unknown_variables() == []


def test_empty_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEC_MODEL", "")
    assert read_settings({}).model is None


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CODEC_PORT", "http", "CODEC_PORT (--port): "),
        ("CODEC_PORT", "70000", "less than or equal to 65535, got '70000'"),
        ("CODEC_MAX_JOBS", "0", "CODEC_MAX_JOBS (--max-jobs): "),
        ("CODEC_DTYPE", "int8", "'auto', 'fp16', 'bf16' or 'fp32', got 'int8'"),
    ],
)
def test_invalid_value_is_rejected_with_the_name_of_the_setting(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings) as caught:
        read_settings({})
    assert message in str(caught.value)


def test_unknown_variable_gives_a_warning_with_the_most_similar_name() -> None:
    warnings = unknown_variables({"CODEC_MODLE": "x", "CODEC_MODEL": "y", "PATH": "z", "CODEC_ZZZZ": "1"})
    assert warnings == [
        "CODEC_MODLE is not a setting and is ignored; did you mean CODEC_MODEL?",
        "CODEC_ZZZZ is not a setting and is ignored",
    ]
