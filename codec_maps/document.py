"""Makes the map of a latent space for which none is at hand: what the model itself tells, nothing measured."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from codec_wire.errors import InvalidMap, InvalidSettings, truncated_repr
from codec_wire.http import dictionary_path, scales_path
from codec_wire.latents import Modality
from codec_wire.maps.bundle import LatentMapBundle, sha256
from codec_wire.pipelines import PIPELINES, Scales
from codec_wire.request import DEFAULT_KEYFRAME_INTERVAL
from core.model import ModelInfo

IMAGE_BY_DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A zstd dictionary for the bodies of one wire format and pipeline, and what was measured of it."""

    wire_format: str
    pipeline: str
    data: bytes
    corpus_summary: Mapping[str, object]


def map_of_model(
    model: ModelInfo,
    vae_scale_factor: float,
    vae_class: str,
    static_scales: Mapping[str, bytes] | None = None,
    dictionaries: Sequence[Dictionary] = (),
) -> LatentMapBundle:
    """Return the map of `model`'s latent space: the same model gives the same bytes, and so the same hash.

    `vae_scale_factor` is the VAE's own, by which latents are divided before decoding; `static_scales` gives int8
    and int4 their scales (one little-endian fp16 per channel). Without it the map has neither of the two.
    Raises InvalidMap when a file cannot be what it is given for.
    """
    scales = dict(static_scales or {})
    width, height = model.default_size
    document: dict[str, object] = {
        "id": model.latent_space,
        "version": "1",
        "shape": list(model.latent_shape(width, height)),
        "dtype": "fp16",
        "vae_scale_factor": vae_scale_factor,
        "pipelines": list(_entries(model, scales)),
        "decoder": {"family": "torch", "model_class": vae_class},
    }
    if dictionaries:
        document["zstd_dictionaries"] = [_dictionary_entry(dictionary) for dictionary in dictionaries]
    files = (*scales.values(), *(dictionary.data for dictionary in dictionaries))
    return LatentMapBundle.from_parts(written(document), {sha256(data): data for data in files})


def written(document: Mapping[str, object]) -> bytes:
    """Return a map's bytes, as this project writes them."""
    return json.dumps(document, indent=2).encode() + b"\n"


def _file_entry(data: bytes, url_of: Callable[[str], str]) -> dict[str, object]:
    digest = sha256(data)
    return {"url": url_of(digest), "hash": digest, "size_bytes": len(data)}


def _dictionary_entry(dictionary: Dictionary) -> dict[str, object]:
    """Return a map's entry, without `trained_at`: the same model shall give the same map on any day."""
    return {
        "format": str(dictionary.wire_format),
        "pipeline": dictionary.pipeline,
        **_file_entry(dictionary.data, dictionary_path),
        "corpus_summary": dict(dictionary.corpus_summary),
    }


def require_by_digest(image: str) -> None:
    """Raise InvalidSettings unless `image` is NAME@sha256:<64 hex>."""
    if not IMAGE_BY_DIGEST.fullmatch(image):
        raise InvalidSettings(f"--canonical-image must be NAME@sha256:<64 hex>, tags move; got {truncated_repr(image)}")


def with_canonical_image(bundle: LatentMapBundle, image: str) -> LatentMapBundle:
    """Return `bundle` with the image that its reference pixels come from, NAME@sha256:..., as decoder.canonical_image.

    Raises InvalidMap when the map names no decoder, InvalidSettings for an image that is not named by digest.
    """
    require_by_digest(image)
    document = json.loads(bundle.document)
    if "decoder" not in document:
        raise InvalidMap(f"the map of {bundle.latent_map.id} names no decoder, which canonical_image belongs to")
    document["decoder"]["canonical_image"] = image
    return LatentMapBundle.from_parts(written(document), bundle.assets)


def _entries(model: ModelInfo, scales: Mapping[str, bytes]) -> Iterable[dict[str, object]]:
    for row in PIPELINES.values():
        if row.video_only and Modality.VIDEO not in model.modalities:
            continue
        entry: dict[str, object] = {"name": row.name}
        if row.scales is Scales.STATIC:
            if row.name not in scales:
                continue
            entry["static_scales"] = _file_entry(scales[row.name], scales_path)
        if row.delta:
            entry["keyframe_interval_frames"] = DEFAULT_KEYFRAME_INTERVAL
        yield entry
