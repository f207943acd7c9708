"""Results of comparing decoded latents with the pixels that a diffusers pipeline returns, and storage of the results.

The module core.diffusers_engine.pixel_check runs the comparisons. A comparison is repeated only if one of the values
that determine the result has changed. The package contains the results for the embedded model on a CPU. The document
docs/releasing.md describes how to update the results in the package.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codec_pixels.known_models import EMBEDDED_MODELS_DIR
from codec_wire.atomic_file import write_atomically
from core.map_store import bundle_folder

log = logging.getLogger(__name__)

FILE = "pixel_checks.json"
"""Name of the file with the results, in the folder of a latent-space map.

The file contains a JSON list of objects such as {"key": {...}, "checks": [...]}.

The last item of the list is the newest item.
"""
_MAX_RECORDS = 16


@dataclass(frozen=True, slots=True)
class PixelCheck:
    """The difference between decoded latents and the pixels that one diffusers pipeline returns for the same request.

    `max_difference` and `tolerance` are in 8-bit levels. If a comparison is not possible, `max_difference` has the
    value None and `reason` states why.
    """

    pipeline: str
    vae: str
    max_difference: int | None
    tolerance: int
    reason: str | None = None

    def __str__(self) -> str:
        if self.max_difference is None:
            return f"{self.pipeline}: not compared: {self.reason}"
        return f"{self.pipeline}: at most {self.max_difference} of 255 levels (allowed: {self.tolerance})"


def load_checks(models_dir: Path, latent_space: str, key: Mapping[str, Any]) -> tuple[PixelCheck, ...] | None:
    """Return the stored results for `key`, or None if no results are stored.

    Results in `models_dir` take precedence over results in the data of the embedded model.
    """
    folders = [bundle_folder(directory, latent_space) for directory in (models_dir, EMBEDDED_MODELS_DIR)]
    for record in [record for folder in folders for record in _records(folder / FILE)]:
        try:
            if record["key"] == key:
                return tuple(PixelCheck(**check) for check in record["checks"])
        except (KeyError, TypeError):
            continue
    return None


def store_checks(models_dir: Path, latent_space: str, key: Mapping[str, Any], checks: tuple[PixelCheck, ...]) -> None:
    """Store the results for `key`.

    If `models_dir` is not writable, the error is logged, and the comparison is repeated at the next start.
    """
    path = bundle_folder(models_dir, latent_space) / FILE
    kept = [record for record in _records(path) if isinstance(record, dict) and record.get("key") != key]
    records = [*kept[1 - _MAX_RECORDS :], {"key": key, "checks": [asdict(check) for check in checks]}]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, f"{json.dumps(records, indent=2)}\n".encode())
    except OSError as error:
        log.info("cannot store the result of the pixel comparison in %s: %s", path, error.strerror)


def _records(path: Path) -> list[Any]:
    try:
        records = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    return records if isinstance(records, list) else []
