"""The versions that define the reference pixels, and whether they are the ones installed."""

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Self

from codec_wire.errors import InvalidSettings


def pinned_versions() -> dict[str, str]:
    """Return {library: version} as core/pins.txt has it, the one place that says so."""
    lines = resources.files("core").joinpath("pins.txt").read_text().splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name.strip(): version.strip() for name, version in pins}


@cache
def installed_versions() -> dict[str, str]:
    """Return {library: version} of the pinned libraries that are installed."""
    found = {}
    for name in pinned_versions():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def pin_differences() -> list[str]:
    """Return a line for each library whose version is not the pinned one. A build tag ("+cpu") is no difference."""
    installed = installed_versions()
    return [
        f"{name} {installed.get(name, 'is not installed')} where {version} is pinned"
        for name, version in pinned_versions().items()
        if installed.get(name, "").partition("+")[0] != version
    ]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What whoever compares pixels must know of the process that makes them.

    `versions` are the installed ones by library, `image_digest` is that of the image it runs in, where it was told.
    """

    versions: Mapping[str, str]
    pin_differences: Sequence[str]
    image_digest: str | None = None

    @classmethod
    def current(cls, image_digest: str | None = None) -> Self:
        """Return this process's."""
        return cls(installed_versions(), pin_differences(), image_digest)


def require_pins() -> None:
    """Raise InvalidSettings, saying what to do, when what is installed is not what is pinned."""
    differences = pin_differences()
    if differences:
        wanted = " ".join(f"{name}=={version}" for name, version in pinned_versions().items())
        raise InvalidSettings(
            f"CODEC_REQUIRE_PINS is set, and this is not the reference: {'; '.join(differences)}. "
            f"Install {wanted} (core/pins.txt), or unset it"
        )


ALSO = ("accelerate", "numpy", "safetensors", "tokenizers")
"""What else has a part in a pixel. constraints.txt holds their versions, and core/pins.txt does not."""


def pins_document() -> dict[str, object]:
    """Return the pinned versions, the installed ones, and those of what works beside them."""
    return {
        "pinned": pinned_versions(),
        "installed": installed_versions(),
        "beside": {name: metadata.version(name) for name in ALSO},
        "python": platform.python_version(),
    }


def main() -> int:
    """Write the file that the command line names; return the exit status. Raises InvalidSettings on a difference."""
    require_pins()
    Path(sys.argv[1]).write_text(json.dumps(pins_document(), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
