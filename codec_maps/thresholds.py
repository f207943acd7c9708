"""Gives a map the perceptual bounds that its pipelines were measured to keep."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from codec_maps.document import written
from codec_wire.errors import InvalidMap, InvalidSettings, truncated_repr
from codec_wire.maps.bundle import LatentMapBundle
from codec_wire.maps.document import QualityThresholds

Thresholds = dict[str, QualityThresholds]
"""By the pipeline's name."""

_READER = TypeAdapter(Thresholds)


def read_thresholds(path: Path) -> Thresholds:
    """Return what a JSON file holds: {pipeline: {ssim_min, psnr_min_db, lpips_max, fixture_suite}}, each may be absent.

    Raises InvalidSettings naming the key at fault.
    """
    try:
        return _READER.validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidSettings(f"cannot read the thresholds in {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise InvalidSettings(f"{path}: {place}: {first['msg']}, got {truncated_repr(first['input'])}") from None


def with_thresholds(bundle: LatentMapBundle, thresholds: Thresholds) -> LatentMapBundle:
    """Return `bundle` with `thresholds` in its map, which has another hash then; pipelines not named keep theirs.

    Raises InvalidMap for a pipeline that the map does not list.
    """
    document: dict[str, Any] = json.loads(bundle.document)
    entries = {entry["name"]: entry for entry in document["pipelines"]}
    for name, bounds in thresholds.items():
        if name not in entries:
            raise InvalidMap(
                f"the map of {bundle.latent_map.id} lists {', '.join(entries)}, and not {truncated_repr(name)}"
            )
        entries[name]["quality_thresholds"] = bounds.model_dump(exclude_none=True)
    return LatentMapBundle.from_parts(written(document), bundle.assets)
