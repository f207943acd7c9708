"""Detection of the compiler that torch.compile needs."""

import os
import shutil
from typing import Any


def missing_compiler(device: Any) -> str | None:
    """Return the reason why torch cannot compile for the torch device `device`, or None if torch can compile."""
    if device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        return "there is no C++ compiler: install g++, or set CXX to another compiler (the only allowed value is none)"
    return None
