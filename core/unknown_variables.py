"""Detection of CODEC_* environment variables that are not settings.

A variable that is not a setting is often a misspelled setting.
"""

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from pydantic import AliasChoices

from core.service_links import service_links
from core.setting_field import PREFIX
from core.settings import Settings


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return a warning for each CODEC_* variable that is not a setting.

    If a setting has a similar name, the warning names the most similar setting. Unknown variables are not errors,
    because container platforms set additional variables. Kubernetes service links are reported in one warning.
    """
    known = [name.removeprefix(PREFIX) for name in _variables()]
    links = service_links(environment)
    warnings = []
    if links:
        warnings.append(
            "environment variables that are ignored, because they are Kubernetes service links and not settings: "
            f"{', '.join(links)}"
        )
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name.removeprefix(PREFIX) in known or name in links:
            continue
        similar = get_close_matches(name.removeprefix(PREFIX), known, n=1)
        hint = f"; did you mean {PREFIX}{similar[0]}?" if similar else ""
        warnings.append(f"{name} is not a setting and is ignored{hint}")
    return warnings


def _variables() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            yield from (str(choice) for choice in alias.choices)
        else:
            yield f"{PREFIX}{name.upper()}"
