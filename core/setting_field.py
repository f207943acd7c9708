"""Fields of settings models."""

from typing import Any

from pydantic import Field


def setting(panel: str, default: Any, description: str, **constraints: Any) -> Any:
    """Return a field of a settings model. `panel` is the heading under which --help lists the flag of the field."""
    return Field(default, description=description, json_schema_extra={"panel": panel}, **constraints)
