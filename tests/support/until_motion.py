"""What stands in for videos in the gate's tests as long as the embedded model makes none.

Each function gives way by itself: to the map that lists delta pipelines, to the model that makes videos. This file
and its two calls (reference_model.py, tests/golden/conftest.py) go when both are there.
"""

import json
from pathlib import Path

import numpy as np

from core.latents import Modality
from core.maps import LatentMapBundle
from core.maps.build import written
from core.pipelines import PIPELINES
from core.request import DEFAULT_KEYFRAME_INTERVAL
from golden.fixtures import Fixture
from golden.folder import latents_bytes
from golden.reference import ReferenceModel


def with_deltas(bundle: LatentMapBundle) -> LatentMapBundle:
    """Return `bundle` with the delta pipelines in its map, without bounds; as it is where it lists them."""
    document = json.loads(bundle.document)
    missing = [row.name for row in PIPELINES.values() if row.delta and bundle.latent_map.pipeline(row.name) is None]
    if not missing:
        return bundle
    document["pipelines"] += [{"name": name, "keyframe_interval_frames": DEFAULT_KEYFRAME_INTERVAL} for name in missing]
    return LatentMapBundle.from_parts(written(document), bundle.assets)


def capture_of(video: Fixture, reference: ReferenceModel, folder: Path) -> Path | None:
    """Return `folder` with latents for `video` that pass from one sampled picture to another.

    None, and nothing written, where the model makes the video itself.
    """
    if Modality.VIDEO in reference.info.modalities:
        return None
    still = video.model_copy(update={"kind": "image", "fps": None, "frames": 1})
    ends = [reference.latents(still.model_copy(update={"seed": seed}), lambda _d, _t: None)[0] for seed in (1, 2)]
    first, last = (end.astype(np.float32) for end in ends)
    between = [first + (last - first) * number / (video.frames - 1) for number in range(video.frames)]
    (folder / "video-short.bin").write_bytes(latents_bytes(np.stack(between).astype(np.float16)))
    return folder
