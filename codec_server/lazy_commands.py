"""A typer group that lists commands without importing the commands, so that the command line starts quickly."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A command or a group of commands, imported at its first use.

    `attribute` is the name of an object in the module `module`. The object is the function of a command, or the
    typer.Typer of a group. The list of commands shows `summary`, the first paragraph of the command's help text.
    `epilog` is printed below the help text of a command that is a function.
    """

    module: str
    attribute: str
    summary: str
    epilog: str | None = None

    def load(self, name: str) -> Any:
        """Import the command and return it as a click command called `name`."""
        found = getattr(import_module(self.module), self.attribute)
        if not isinstance(found, typer.Typer):
            app = typer.Typer(add_completion=False, rich_markup_mode="rich")
            app.command(name, epilog=self.epilog)(found)
            return typer.main.get_command(app)
        group = typer.main.get_command(found)
        group.name = name
        return group


def lazy_group(commands: Mapping[str, LazyCommand]) -> type[TyperGroup]:
    """Return the class of a typer group with `commands`. Pass the returned class to typer.Typer as `cls`."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = {name: TyperCommand(name, help=command.summary) for name, command in commands.items()}

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            name, listed, rest = super().resolve_command(ctx, args)
            if name is None or listed is None:
                return name, listed, rest
            return name, commands[name].load(name), rest

    return LazyGroup
