"""Checkpoint files, replaced atomically so that an interrupted stage can resume."""

from pathlib import Path
from typing import Any

import torch

DEFAULT_FOLDER = Path("models/training")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to a temporary file in the folder of `path`, then rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Return the checkpoint at `path` with its tensors on `device`, or None if the file does not exist."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state
