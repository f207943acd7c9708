"""--help of every command: readable at 80 columns, with every flag and every variable uncut."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.core import TyperGroup, TyperOption
from typer.main import get_command
from typer.testing import CliRunner

from codec_server.cli import COMMANDS, app
from core.setting_field import PREFIX
from core.settings import Settings, panel_of


def command_paths() -> Iterator[tuple[str, ...]]:
    yield ()
    for name, command in COMMANDS.items():
        yield (name,)
        loaded = command.load(name)
        if isinstance(loaded, TyperGroup):
            yield from ((name, child) for child in loaded.commands)


def find_command(path: tuple[str, ...]) -> Any:
    if not path:
        return get_command(app)
    name, *children = path
    command = COMMANDS[name].load(name)
    return command.commands[children[0]] if children else command


def help_of(path: tuple[str, ...], columns: int) -> str:
    # Not TERMINAL_WIDTH: typer reads it only once.
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("path", list(command_paths()), ids=" ".join)
def test_help_shows_every_flag_and_variable_uncut(path: tuple[str, ...], columns: int) -> None:
    output = help_of(path, columns)
    assert "…" not in output
    assert max(map(len, output.splitlines())) <= columns
    for option in find_command(path).params:
        if not isinstance(option, TyperOption):
            continue
        for flag in (*option.opts, *option.secondary_opts):
            assert re.search(rf"{flag}(?![\w-])", output), flag
        variables = set(re.findall(rf"{PREFIX}\w+", option.help or "")) | {option.envvar} - {None}
        for variable in variables:
            assert re.search(rf"{variable}(?!\w)", output), variable


@pytest.mark.parametrize("path", list(command_paths()), ids=" ".join)
def test_help_describes_every_option_in_a_sentence(path: tuple[str, ...]) -> None:
    for option in find_command(path).params:
        if option.name != "help":
            assert re.match(r"[A-Za-z-].*\.( \\\[env var: \w+\])?$", option.help), option.name


def test_serve_help_groups_its_flags_in_panels() -> None:
    output = help_of(("serve",), 80)
    for panel in ("Model", "Latent-space map", "Device", "Engine", "Server", "Limits", "Reproducibility", "Logging"):
        assert f"─ {panel} ─" in output


def test_every_setting_has_a_panel_and_a_flag_of_a_command() -> None:
    flags = {flag for path in command_paths() for option in find_command(path).params for flag in option.opts}
    for name in Settings.model_fields:
        assert panel_of(name)
        assert f"--{name.replace('_', '-')}" in flags


@pytest.mark.parametrize("name", list(COMMANDS))
def test_summary_in_the_list_of_commands_is_that_of_the_command(name: str) -> None:
    summary = COMMANDS[name].summary
    assert find_command((name,)).help.split("\n\n")[0].replace("\n", " ") == summary
    assert re.search(rf"│ {name} +{' '.join(summary.split()[:3])} ", help_of((), 80))


def test_unknown_command_gets_a_suggestion() -> None:
    result = CliRunner().invoke(app, ["srve"])
    assert result.exit_code == 2
    assert "Did you mean 'serve'?" in result.output
