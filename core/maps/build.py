"""Makes the map of a latent space for which none is at hand: what the model itself tells, nothing measured."""

import json
import re
from collections.abc import Iterable, Mapping

from core.errors import InvalidMap, InvalidSettings, shown
from core.latents import Modality
from core.maps.bundle import LatentMapBundle, sha256
from core.model import ModelInfo
from core.pipelines import PIPELINES, Scales
from core.request import DEFAULT_KEYFRAME_INTERVAL

IMAGE_BY_DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")
SCALES_URL = "/.well-known/codec/scales/{hex}.bin"


def map_of_model(
    model: ModelInfo, vae_scale_factor: float, vae_class: str, static_scales: Mapping[str, bytes] | None = None
) -> LatentMapBundle:
    """Return the map of `model`'s latent space: the same model gives the same bytes, and so the same hash.

    `vae_scale_factor` is the VAE's own, by which latents are divided before decoding; `static_scales` gives int8
    and int4 their scales (one little-endian fp16 per channel). Without it the map has neither of the two.
    """
    scales = dict(static_scales or {})
    width, height = model.default_size
    document = {
        "id": model.latent_space,
        "version": "1",
        "shape": list(model.latent_shape(width, height)),
        "dtype": "fp16",
        "vae_scale_factor": vae_scale_factor,
        "pipelines": list(_entries(model, scales)),
        "decoder": {"family": "torch", "model_class": vae_class},
    }
    return LatentMapBundle.from_parts(
        json.dumps(document, indent=2).encode() + b"\n", {sha256(data): data for data in scales.values()}
    )


def require_by_digest(image: str) -> None:
    """Raise InvalidSettings unless `image` is NAME@sha256:<64 hex>."""
    if not IMAGE_BY_DIGEST.fullmatch(image):
        raise InvalidSettings(f"--canonical-image must be NAME@sha256:<64 hex>, tags move; got {shown(image)}")


def with_canonical_image(bundle: LatentMapBundle, image: str) -> LatentMapBundle:
    """Return `bundle` with the image that its reference pixels come from, NAME@sha256:..., as decoder.canonical_image.

    Raises InvalidMap when the map names no decoder, InvalidSettings for an image that is not named by digest.
    """
    require_by_digest(image)
    document = json.loads(bundle.document)
    if "decoder" not in document:
        raise InvalidMap(f"the map of {bundle.latent_map.id} names no decoder, which canonical_image belongs to")
    document["decoder"]["canonical_image"] = image
    return LatentMapBundle.from_parts(json.dumps(document, indent=2).encode() + b"\n", bundle.assets)


def _entries(model: ModelInfo, scales: Mapping[str, bytes]) -> Iterable[dict[str, object]]:
    for row in PIPELINES.values():
        if row.video_only and Modality.VIDEO not in model.modalities:
            continue
        entry: dict[str, object] = {"name": row.name}
        if row.scales is Scales.STATIC:
            if row.name not in scales:
                continue
            digest = sha256(scales[row.name])
            entry["static_scales"] = {
                "url": SCALES_URL.format(hex=digest.removeprefix("sha256:")),
                "hash": digest,
                "size_bytes": len(scales[row.name]),
            }
        if row.delta:
            entry["keyframe_interval_frames"] = DEFAULT_KEYFRAME_INTERVAL
        yield entry
