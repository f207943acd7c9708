"""Pinned and installed versions of the libraries that determine the reference pixels.

`python -m core.pins FILE` writes the pinned and the installed versions to FILE as JSON. The Dockerfile runs this
command when an image is built.
"""

import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Self

from codec_wire.errors import InvalidSettings

_OTHER_LIBRARIES = ("accelerate", "numpy", "safetensors", "tokenizers")
"""Names of libraries that affect pixels and have a version in constraints.txt."""


PIN = re.compile(r"""(?P<name>[\w.-]+)==(?P<version>[\w.]+) *; *extra *== *["']server["']""")
"""Regular expression for a requirement in package metadata.

A matching requirement belongs to the extra `server` and has an exact version.
"""


def pinned_versions() -> dict[str, str]:
    """Return the versions that pyproject.toml pins with "==" in the extra `server`.

    The keys of the result are the names of the libraries.
    """
    requirements = metadata.requires("codec-diffusers") or []
    pins = (PIN.fullmatch(requirement) for requirement in requirements)
    return {pin["name"]: pin["version"] for pin in pins if pin}


@cache
def installed_versions() -> dict[str, str]:
    """Return the installed versions of the pinned libraries.

    The keys of the result are the names of the libraries. Libraries that are not installed are left out.
    """
    found = {}
    for name in pinned_versions():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def pin_differences() -> list[str]:
    """Return one message for each pinned library that is not installed in the pinned version.

    Build tags in versions, such as "+cpu", are ignored.
    """
    installed = installed_versions()
    return [
        f"{name} {f'{installed[name]} is' if name in installed else 'is not'} installed, {version} is pinned"
        for name, version in pinned_versions().items()
        if installed.get(name, "").partition("+")[0] != version
    ]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Library versions and image digest of the process that generates latents and renders reference images.

    `versions` is a dictionary that maps the name of each library to the installed version. `image_digest` is None if
    the setting CODEC_IMAGE_DIGEST is unset.
    """

    versions: Mapping[str, str]
    pin_differences: Sequence[str]
    image_digest: str | None = None
    versions_text: str = field(init=False, repr=False, compare=False)
    """The names and versions in `versions` as one line, which responses contain."""

    def __post_init__(self) -> None:
        text = ", ".join(f"{name}={version}" for name, version in sorted(self.versions.items()))
        object.__setattr__(self, "versions_text", text)

    @classmethod
    def current(cls, image_digest: str | None = None) -> Self:
        """Return the provenance of this process."""
        return cls(installed_versions(), pin_differences(), image_digest)


def require_pins() -> None:
    """Raise InvalidSettings if a pinned library is not installed in the pinned version.

    The InvalidSettings contains a remedy for the difference.
    """
    differences = pin_differences()
    if differences:
        pins = " ".join(f"{name}=={version}" for name, version in pinned_versions().items())
        raise InvalidSettings(
            "CODEC_REQUIRE_PINS is set, but the installed versions differ from the pinned versions: "
            f"{'; '.join(differences)}. Install {pins} (pyproject.toml, extra server), or unset CODEC_REQUIRE_PINS"
        )


def pins_document() -> dict[str, object]:
    """Return the JSON object that `python -m core.pins FILE` writes to FILE."""
    return {
        "pinned": pinned_versions(),
        "installed": installed_versions(),
        "others": {name: metadata.version(name) for name in _OTHER_LIBRARIES},
        "python": platform.python_version(),
    }


def main() -> int:
    """Write the pinned and installed versions to the file named on the command line. Return the exit status.

    Raises InvalidSettings if the installed versions differ from the pinned versions.
    """
    require_pins()
    Path(sys.argv[1]).write_text(json.dumps(pins_document(), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
