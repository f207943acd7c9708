"""Makes a command's flags from the settings, so that each stands in one place."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import typer

from core.settings import PREFIX, Settings

LOCAL_MODEL = ("model", "pipeline", "latent_space", "models_dir", "allow_pickle", "device", "dtype", "threads")
"""Settings that say which model runs in this process, and on what."""


def with_settings(
    names: Iterable[str], panel: str | None = None, **defaults: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a typer command a flag for each of the settings `names`.

    The command's own parameters come first; the flags arrive in its **flags by field name, None where not given.
    `panel` is the heading under which --help lists them; `defaults` is what it says where the command's default is
    another than the setting's.
    """
    names = list(names)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter
            for parameter in inspect.signature(command).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        signature = inspect.Signature([*own, *(_flag(name, panel, defaults) for name in names)])
        # Typer reads both.
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
        return command

    return decorate


def _flag(name: str, panel: str | None, defaults: Mapping[str, str]) -> inspect.Parameter:
    field = Settings.model_fields[name]
    value = defaults.get(name, field.default)
    default = "" if value is None else f" Default: {value}."
    words = name.replace("_", "-")
    option = typer.Option(
        None,
        f"--{words}/--no-{words}" if field.annotation is bool else f"--{words}",
        help=f"{field.description}{default} \\[{PREFIX}{name.upper()}]",
        show_default=False,
        rich_help_panel=panel,
    )
    annotation: Any = field.annotation
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation | None)
