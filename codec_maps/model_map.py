"""Creation of a model's latent-space map from the model's description, static scales and zstd dictionaries."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from codec_wire.http import dictionary_path, scales_path
from codec_wire.latents import Modality
from codec_wire.maps.bundle import LatentMapBundle, sha256
from codec_wire.pipelines import PIPELINES, Scales
from codec_wire.request import DEFAULT_KEYFRAME_INTERVAL
from core.model import ModelInfo


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A zstd dictionary for one wire format and encoding pipeline, and statistics of the training corpus."""

    wire_format: str
    pipeline: str
    data: bytes
    corpus_summary: Mapping[str, object]


def map_from_model(
    model: ModelInfo,
    vae_scale_factor: float,
    vae_class: str,
    static_scales: Mapping[str, bytes] | None = None,
    dictionaries: Sequence[Dictionary] = (),
    *,
    public_url: str | None = None,
) -> LatentMapBundle:
    """Return the map of `model`'s latent space.

    The same arguments always produce a map with the same bytes and the same hash. `vae_scale_factor` is the VAE's
    scaling factor, by which latents are divided before decoding. `static_scales` is a dictionary of static scales by
    the name of the encoding pipeline, `int8` or `int4`. The static scales of a pipeline are one little-endian fp16
    number per channel. The map contains the pipeline int8 or int4 only if `static_scales` contains the scales of the
    pipeline. URLs in the map begin with `public_url`, or are relative to the server if `public_url` is not given.
    Raises InvalidMap if scales or a dictionary are not valid.
    """
    scales = dict(static_scales or {})
    base = public_url or ""
    width, height = model.default_size
    document: dict[str, object] = {
        "id": model.latent_space,
        "version": "1",
        "shape": list(model.latent_shape(width, height)),
        "dtype": "fp16",
        "vae_scale_factor": vae_scale_factor,
        "pipelines": list(_pipeline_entries(model, scales, base)),
        "decoder": {"family": "torch", "model_class": vae_class},
    }
    if dictionaries:
        document["zstd_dictionaries"] = [_dictionary_entry(dictionary, base) for dictionary in dictionaries]
    files = (*scales.values(), *(dictionary.data for dictionary in dictionaries))
    return LatentMapBundle.from_parts(serialize_map(document), {sha256(data): data for data in files})


def serialize_map(document: Mapping[str, object]) -> bytes:
    """Return the bytes of a map document.

    This is the only function that serializes maps, because the hash of a map depends on the exact bytes of the
    document.
    """
    return json.dumps(document, indent=2).encode() + b"\n"


def _pipeline_entries(model: ModelInfo, scales: Mapping[str, bytes], base: str) -> Iterable[dict[str, object]]:
    for spec in PIPELINES.values():
        if spec.video_only and Modality.VIDEO not in model.modalities:
            continue
        entry: dict[str, object] = {"name": spec.name}
        if spec.scales is Scales.STATIC:
            if spec.name not in scales:
                continue
            entry["static_scales"] = _file_entry(scales[spec.name], base, scales_path)
        if spec.delta:
            entry["keyframe_interval_frames"] = DEFAULT_KEYFRAME_INTERVAL
        yield entry


def _dictionary_entry(dictionary: Dictionary, base: str) -> dict[str, object]:
    """Return the entry of a dictionary in the map.

    The entry has no `trained_at`, so that the map does not depend on the date.
    """
    return {
        "format": str(dictionary.wire_format),
        "pipeline": dictionary.pipeline,
        **_file_entry(dictionary.data, base, dictionary_path),
        "corpus_summary": dict(dictionary.corpus_summary),
    }


def _file_entry(data: bytes, base: str, path_of: Callable[[str], str]) -> dict[str, object]:
    digest = sha256(data)
    return {"url": base + path_of(digest), "hash": digest, "size_bytes": len(data)}
