"""Optional entries of a finished map: quality thresholds, container image and weights of the decoder, ONNX decoder."""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from codec_maps.model_map import serialize_map
from codec_wire.errors import InvalidMap, InvalidSettings, truncated_repr
from codec_wire.http import WELL_KNOWN_PATH, decoder_path
from codec_wire.maps.bundle import LatentMapBundle, map_files
from codec_wire.maps.document import QualityThresholds

Thresholds = dict[str, QualityThresholds]
"""Dictionary of quality thresholds by the name of the encoding pipeline."""

_THRESHOLDS = TypeAdapter(Thresholds)
_IMAGE_WITH_DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")


def read_thresholds(path: Path) -> Thresholds:
    """Return the quality thresholds in a JSON file.

    For each encoding pipeline, the file contains an object with the keys ssim_min, psnr_min_db, lpips_max and
    fixture_suite. All keys of the object are optional. Raises InvalidSettings if the file or a key is not valid. The
    error message names the file and the key.
    """
    try:
        return _THRESHOLDS.validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidSettings(f"cannot read the thresholds in {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "document"
        raise InvalidSettings(f"{path}: {key}: {first['msg']}, got {truncated_repr(first['input'])}") from None


def with_thresholds(bundle: LatentMapBundle, thresholds: Thresholds) -> LatentMapBundle:
    """Return a copy of `bundle` whose map contains `thresholds`. The hash of the map changes.

    Pipelines without an entry in `thresholds` keep the thresholds of the original map.

    Raises InvalidMap if the map does not list a pipeline of `thresholds`.
    """
    document: dict[str, Any] = json.loads(bundle.document)
    entries = {entry["name"]: entry for entry in document["pipelines"]}
    for name, bounds in thresholds.items():
        if name not in entries:
            raise InvalidMap(
                f"pipeline {truncated_repr(name)} is not in the map of {bundle.latent_map.id}; "
                f"allowed: {', '.join(entries)}"
            )
        entries[name]["quality_thresholds"] = bounds.model_dump(exclude_none=True)
    return LatentMapBundle.from_parts(serialize_map(document), bundle.assets)


def require_image_digest(image: str) -> None:
    """Raise InvalidSettings if `image` does not have the form NAME@sha256:<64 hex>."""
    if not _IMAGE_WITH_DIGEST.fullmatch(image):
        raise InvalidSettings(
            f"--canonical-image must be NAME@sha256:<64 hex>, got {truncated_repr(image)}. Tags are not "
            "allowed, because the image of a tag can change"
        )


def with_canonical_image(bundle: LatentMapBundle, image: str) -> LatentMapBundle:
    """Return a copy of `bundle` in which the map's field decoder.canonical_image is `image`.

    The canonical image is the container image that renders the reference pixels. Raises InvalidSettings if `image` does
    not have the form NAME@sha256:<64 hex>, and InvalidMap if the map has no decoder.
    """
    require_image_digest(image)
    document = json.loads(bundle.document)
    if "decoder" not in document:
        raise InvalidMap(f"canonical_image cannot be set: the map of {bundle.latent_map.id} has no decoder")
    document["decoder"]["canonical_image"] = image
    return LatentMapBundle.from_parts(serialize_map(document), bundle.assets)


def with_decoder_weights(bundle: LatentMapBundle, digest: str) -> LatentMapBundle:
    """Return a copy of `bundle` in which the map's field decoder.weights_hash is `digest`. The hash of the map changes.

    `digest` is the hash of the weights file of a torch decoder. Raises InvalidMap if the map has no torch decoder.
    """
    document = json.loads(bundle.document)
    family = document.get("decoder", {}).get("family")
    if family != "torch":
        raise InvalidMap(
            f"decoder.family in the map of {bundle.latent_map.id} must be torch, got {family or 'nothing'}"
        )
    document["decoder"]["weights_hash"] = digest
    return LatentMapBundle.from_parts(serialize_map(document), bundle.assets)


def with_onnx_decoder(bundle: LatentMapBundle, digest: str) -> LatentMapBundle:
    """Return a copy of `bundle` whose map has the ONNX decoder with the hash `digest`. The hash of the map changes.

    The URL of the decoder begins with the same address as the URLs of the map's other files. If the map has no other
    files, the URL is relative to the server. Raises InvalidMap if the map has no decoder.
    """
    document = json.loads(bundle.document)
    if "decoder" not in document:
        raise InvalidMap(f"an exported decoder cannot be added: the map of {bundle.latent_map.id} has no decoder")
    base = next((file.url.partition(WELL_KNOWN_PATH)[0] for file in map_files(bundle.latent_map)), "")
    document["decoder"] |= {"family": "onnx", "weights_url": base + decoder_path(digest), "weights_hash": digest}
    return LatentMapBundle.from_parts(serialize_map(document), bundle.assets)
