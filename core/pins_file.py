"""Writes down what an environment holds, for an image to carry: `python -m core.pins_file /opt/codec/pins.json`."""

import json
import platform
import sys
from importlib import metadata
from pathlib import Path

from core.pins import installed_versions, pinned_versions, require_pins

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
