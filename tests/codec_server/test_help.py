"""--help of every command: readable at 80 columns, with every flag and every variable uncut."""

import re
from collections.abc import Iterator

import pytest
from typer.core import TyperGroup, TyperOption
from typer.main import get_command
from typer.testing import CliRunner

from codec_server.cli import app
from core.settings import PREFIX, Settings, panel_of


def command_paths(command: object = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    command = get_command(app) if command is None else command
    yield path
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from command_paths(child, (*path, name))


def find_command(path: tuple[str, ...]) -> object:
    command: object = get_command(app)
    for name in path:
        assert isinstance(command, TyperGroup)
        command = command.commands[name]
    return command


def help_of(path: tuple[str, ...], columns: int) -> str:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": str(columns), "TERMINAL_WIDTH": str(columns)})
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("path", list(command_paths()), ids=" ".join)
def test_help_shows_every_flag_and_variable_uncut(path: tuple[str, ...], columns: int) -> None:
    output = help_of(path, columns)
    assert "…" not in output
    assert max(map(len, output.splitlines())) <= columns
    for option in find_command(path).params:  # type: ignore[attr-defined]
        if not isinstance(option, TyperOption):
            continue
        for flag in (*option.opts, *option.secondary_opts):
            assert re.search(rf"{flag}(?![\w-])", output), flag
        variables = set(re.findall(rf"{PREFIX}\w+", option.help or "")) | {option.envvar} - {None}
        for variable in variables:
            assert re.search(rf"{variable}(?!\w)", output), variable


@pytest.mark.parametrize("path", list(command_paths()), ids=" ".join)
def test_help_describes_every_option_in_a_sentence(path: tuple[str, ...]) -> None:
    for option in find_command(path).params:  # type: ignore[attr-defined]
        if option.name != "help":
            assert re.match(r"[A-Za-z-].*\.( \\\[env var: \w+\])?$", option.help), option.name


def test_serve_help_groups_its_flags_in_panels() -> None:
    output = help_of(("serve",), 80)
    for panel in ("Model", "Latent-space map", "Device", "Server", "Limits", "Reproducibility", "Logging"):
        assert f"─ {panel} ─" in output


def test_every_setting_has_a_panel_and_a_flag_of_a_command() -> None:
    flags = {flag for path in command_paths() for option in find_command(path).params for flag in option.opts}  # type: ignore[attr-defined]
    for name in Settings.model_fields:
        assert panel_of(name)
        assert f"--{name.replace('_', '-')}" in flags
