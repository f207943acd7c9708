"""Functions that declare the fields of settings classes."""

from typing import Any

from pydantic import AliasChoices, Field

PREFIX = "CODEC_"


def setting(panel: str, default: Any, description: str, **constraints: Any) -> Any:
    """Return a field of a settings class (a Pydantic model).

    `panel` is the heading under which --help lists the flag of the field.
    """
    return Field(default, description=description, json_schema_extra={"panel": panel}, **constraints)


def either_variable(name: str, other: str) -> AliasChoices:
    """Return the names of the two environment variables of a setting: CODEC_<name> and CODEC_<other>.

    Other Codec servers use the name CODEC_<other>.
    """
    return AliasChoices(f"{PREFIX}{name}", f"{PREFIX}{other}")
