"""A stage's state on disk: written whole or not at all, so that a stopped run resumes."""

from pathlib import Path
from typing import Any

import torch

DEFAULT_FOLDER = Path("models/training")


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` beside `path` and move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_state(path: Path, where: torch.device) -> dict[str, Any] | None:
    """Return the state saved at `path`, or None where there is none yet."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=where, weights_only=True)
    return state
