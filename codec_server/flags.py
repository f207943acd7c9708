"""Command-line flags that are generated from the settings."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer

from core.setting_field import PREFIX
from core.settings import Settings, panel_of

LOCAL_MODEL = (
    "model",
    "variant",
    "pipeline",
    "latent_space",
    "models_dir",
    "allow_pickle",
    "device",
    "dtype",
    "threads",
)
"""Settings that select the model that runs in this process, and its device."""
_CHOICE_METAVAR = "<choice>"
_OTHER_FLAGS = {"dtype": ("--torch-dtype",)}
"""Additional flags of some settings, with the names that other Codec servers use."""


def with_settings(
    names: Iterable[str], panel: str | None = None, **defaults: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds a flag for each of the settings `names` to a typer command.

    The parameter `**flags` of the command receives the values of the flags, keyed by the names of the settings. A flag
    that was not given has the value None. `panel` overrides the heading under which --help lists the flags. The
    dictionary `defaults` contains default values by name of the setting. For the settings in `defaults`, --help shows
    the values in `defaults` instead of the normal default values.
    """
    names = list(names)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        replace_flags(command, settings_flags(names, panel, **defaults))
        return command

    return decorate


def settings_flags(names: Iterable[str], panel: str | None = None, **defaults: str) -> list[inspect.Parameter]:
    """Return the function parameters that declare the flags of the settings `names`. See with_settings."""
    return [_flag(name, panel or panel_of(name), defaults) for name in names]


def replace_flags(command: Callable[..., None], parameters: Iterable[inspect.Parameter]) -> None:
    """Make typer declare `parameters` as options of `command`, in place of the parameter `**flags`."""
    own = (
        parameter
        for parameter in inspect.signature(command).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    )
    signature = inspect.Signature([*own, *parameters])
    # Typer reads both.
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}


def _flag(name: str, panel: str, defaults: Mapping[str, str]) -> inspect.Parameter:
    field = Settings.model_fields[name]
    flag = f"--{name.replace('_', '-')}"
    kind = _type_of(field.annotation)
    is_bool = kind is bool
    is_choice = get_origin(kind) is Literal
    value = defaults.get(name, field.default)
    if is_bool and value is not None:
        value = "on" if value else "off"
    default = "" if value is None else f" Default: {value}."
    description = str(field.description).replace("[", r"\[")  # rich markup
    option = typer.Option(
        None,
        f"{flag}/--no-{flag[2:]}" if is_bool else flag,
        *_OTHER_FLAGS.get(name, ()),
        help=rf"{description}{default} \[env var: {PREFIX}{name.upper()}]",
        # The list of choices is too long for its column at 80 characters; the description names them.
        metavar=_CHOICE_METAVAR if is_choice else None,
        show_default=False,
        rich_help_panel=panel,
    )
    # Settings validates choices: typer would be case-sensitive and would reject alternative spellings.
    annotation: Any = str if is_choice else kind
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation | None)


def _type_of(annotation: Any) -> Any:
    """Return `annotation`, the type of a setting, without None. An optional setting allows None only as its default."""
    types = [one for one in get_args(annotation) if one is not type(None)]
    return types[0] if get_origin(annotation) in (Union, UnionType) and len(types) == 1 else annotation
