"""Latent-space maps: validation of the schema, hashes of the files, and error messages."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from codec_maps.model_map import map_from_model
from codec_wire.errors import InvalidMap
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import sha256
from codec_wire.maps.document import parse_map
from core.map_store import bundle_folder, find_bundle
from tests.support.serving import LATENT_SPACE, MODEL, SCALES, VIDEO_MODEL, bundle_of

MAP: dict[str, Any] = {
    "id": "a/b",
    "version": "1",
    "shape": [4, 64, 64],
    "dtype": "fp16",
    "pipelines": [{"name": "raw"}],
}


def document(**changes: Any) -> bytes:
    values = {key: value for key, value in (MAP | changes).items() if value is not ...}
    return json.dumps(values).encode()


def test_minimal_map_is_valid() -> None:
    assert parse_map(document()).shape == (4, 64, 64)


def test_map_with_every_key_of_the_schema_is_valid() -> None:
    hash_ = "sha256:" + "0" * 64
    full = parse_map(
        document(
            vae_scale_factor=0.18215,
            pipelines=[
                {"name": "raw"},
                {
                    "name": "int8",
                    "static_scales": {"url": "https://x/y", "hash": hash_, "size_bytes": 8},
                    "quality_thresholds": {
                        "ssim_min": 0.9,
                        "psnr_min_db": 30,
                        "lpips_max": 0.1,
                        "fixture_suite": "s",
                    },
                },
                {"name": "delta+int8", "keyframe_interval_frames": 24},
            ],
            decoder={"family": "torch", "model_class": "AutoencoderKL", "weights_url": "u", "weights_hash": hash_},
            zstd_dictionaries=[
                {
                    "format": "msgpack",
                    "pipeline": "int8",
                    "url": "u",
                    "hash": hash_,
                    "size_bytes": 9,
                    "trained_at": "2026-05-08T00:00:00Z",
                    "corpus_summary": {"n_samples": 256},
                }
            ],
            published_at="2026-05-08T00:00:00Z",
        )
    )
    assert [entry.name for entry in full.pipelines] == ["raw", "int8", "delta+int8"]
    assert full.published_at is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "A/b"}, "id: must match"),
        ({"id": "../b"}, "id: "),
        ({"id": "/a"}, "id: "),
        ({"id": "a//b"}, "id: "),
        ({"version": "2"}, "version: Input should be '1', got '2'"),
        ({"shape": [4]}, "shape: "),
        ({"shape": [4, 0]}, "shape.1: "),
        ({"shape": [2**20, 2**20]}, "shape: must have at most 268435456 values"),
        ({"shape": ...}, "shape: Field required"),
        ({"dtype": "bf16"}, "bf16 is not supported"),
        ({"dtype": "int8"}, "dtype: Input should be 'fp16' or 'fp32'"),
        ({"pipelines": []}, "pipelines: "),
        ({"pipelines": [{"name": "int8-adaptive"}]}, "raw is required"),
        ({"pipelines": [{"name": "raw"}, {"name": "raw"}]}, "pipelines must not contain a pipeline twice"),
        ({"pipelines": [{"name": "raw"}, {"name": "int8"}]}, "static_scales is required for pipeline int8"),
        ({"pipelines": [{"name": "raw"}, {"name": "delta+int4"}]}, "keyframe_interval_frames is required"),
        (
            {"pipelines": [{"name": "int2"}]},
            "pipelines.0.name: must be one of raw, int8, int4, int8-adaptive, int4-adaptive, delta+int8, delta+int4",
        ),
        ({"vae_scale_factor": 0}, "vae_scale_factor: "),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"pipelines": ["raw"]}, "older schema (pipelines as strings)"),
        ({"space_kind": "vae", "decoders": []}, "older schema (space_kind, decoders)"),
        ({"decoder": {"family": "wasm", "model_class": "x"}}, "decoder.family"),
    ],
)
def test_invalid_map_raises_invalid_map_naming_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidMap) as caught:
        parse_map(document(**changes))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b'{"id": NaN}', b"[" * 100_000])
def test_document_that_is_not_a_json_object_raises_invalid_map(text: bytes) -> None:
    with pytest.raises(InvalidMap):
        parse_map(text)


def test_written_bundle_is_read_back_unchanged(tmp_path: Path) -> None:
    bundle = bundle_of(MODEL)
    bundle.write(tmp_path)
    assert LatentMapBundle.from_folder(tmp_path) == bundle
    assert bundle.hash == sha256((tmp_path / "map.json").read_bytes())
    assert bundle.static_scales("int8") == SCALES
    assert bundle.static_scales("raw") is None


@pytest.mark.slow
def test_any_flipped_bit_raises_invalid_map_naming_the_file(tmp_path: Path) -> None:
    bundle_of(MODEL).write(tmp_path)
    asset = next((tmp_path / "assets").iterdir())
    messages = {
        asset: rf"static scales of int8.*the hash is sha256:[0-9a-f]{{64}}, expected sha256:{asset.name}",
        tmp_path / "map.json": r"map\.json has the hash sha256:[0-9a-f]{64}, but map\.json\.sha256 contains",
        tmp_path / "map.json.sha256": r"map\.json has the hash sha256:[0-9a-f]{64}, but map\.json\.sha256 contains",
    }
    assert set(messages) == {path for path in tmp_path.rglob("*") if path.is_file()}
    for path, message in messages.items():
        good = path.read_bytes()
        for position in range(0, len(good) * 8, 1 if len(good) < 100 else 7):
            bad = bytearray(good)
            bad[position // 8] ^= 1 << position % 8
            path.write_bytes(bad)
            with pytest.raises(InvalidMap, match=message):
                LatentMapBundle.from_folder(tmp_path)
        path.write_bytes(good)
    assert LatentMapBundle.from_folder(tmp_path) == bundle_of(MODEL)


def test_missing_hash_file_error_contains_the_command_to_create_it(tmp_path: Path) -> None:
    bundle_of(MODEL).write(tmp_path)
    (tmp_path / "map.json.sha256").unlink()
    with pytest.raises(InvalidMap, match=r"map\.json\.sha256: No such file.*sha256sum map\.json > map\.json\.sha256"):
        LatentMapBundle.from_folder(tmp_path)
    listing = subprocess.run(["sha256sum", "map.json"], cwd=tmp_path, capture_output=True, check=True).stdout
    (tmp_path / "map.json.sha256").write_bytes(listing)
    assert LatentMapBundle.from_folder(tmp_path) == bundle_of(MODEL)


def test_writing_a_bundle_deletes_assets_of_the_previous_one(tmp_path: Path) -> None:
    map_from_model(MODEL, 1.0, "AutoencoderKL", {"int8": b"\0\x40" * 4}).write(tmp_path)
    (tmp_path / "assets" / "notes.txt").write_text("not an asset")
    bundle_of(MODEL).write(tmp_path)
    assert LatentMapBundle.from_folder(tmp_path) == bundle_of(MODEL)
    names = {path.name for path in (tmp_path / "assets").iterdir()}
    assert names == {sha256(SCALES).removeprefix("sha256:"), "notes.txt"}


def test_missing_asset_or_folder_raises_invalid_map(tmp_path: Path) -> None:
    bundle_of(MODEL).write(tmp_path)
    next((tmp_path / "assets").iterdir()).unlink()
    with pytest.raises(InvalidMap, match="is missing"):
        LatentMapBundle.from_folder(tmp_path)
    with pytest.raises(InvalidMap, match="cannot read"):
        LatentMapBundle.from_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("scales", [SCALES[:-2], b"\0\x7c" * 4, b"\0\xc4" * 4])
def test_invalid_scales_raise_invalid_map(scales: bytes) -> None:
    with pytest.raises(InvalidMap, match="scale"):
        map_from_model(MODEL, 1.0, "AutoencoderKL", {"int8": scales})


def test_wrong_size_bytes_raises_invalid_map() -> None:
    bundle = bundle_of(MODEL)
    wrong = bundle.document.replace(b'"size_bytes": 8', b'"size_bytes": 10')
    with pytest.raises(InvalidMap, match="expected 10 bytes"):
        LatentMapBundle.from_parts(wrong, bundle.assets)


def test_map_from_model_is_deterministic() -> None:
    assert bundle_of(MODEL) == bundle_of(MODEL)
    names = [entry.name for entry in map_from_model(MODEL, 1.0, "AutoencoderKL").latent_map.pipelines]
    assert names == ["raw", "int8-adaptive", "int4-adaptive"]
    assert "delta+int8" in [entry.name for entry in bundle_of(VIDEO_MODEL).latent_map.pipelines]


def test_find_bundle_in_models_dir(tmp_path: Path) -> None:
    assert find_bundle(tmp_path, MODEL, 0.18215) is None
    bundle_of(MODEL).write(bundle_folder(tmp_path, LATENT_SPACE))
    assert find_bundle(tmp_path, MODEL, 0.18215) == bundle_of(MODEL)


def test_find_bundle_prefers_models_dir_over_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.map_store.EMBEDDED_MODELS_DIR", tmp_path / "embedded")
    shipped = map_from_model(MODEL, 0.18215, "AutoencoderKL")
    shipped.write(bundle_folder(tmp_path / "embedded", LATENT_SPACE))
    assert find_bundle(tmp_path / "models", MODEL, 0.18215) == shipped
    bundle_of(MODEL).write(bundle_folder(tmp_path / "models", LATENT_SPACE))
    assert find_bundle(tmp_path / "models", MODEL, 0.18215) == bundle_of(MODEL)


def test_find_bundle_with_other_scale_factor_raises_invalid_map(tmp_path: Path) -> None:
    bundle_of(MODEL).write(bundle_folder(tmp_path, LATENT_SPACE))
    with pytest.raises(InvalidMap, match=r"vae_scale_factor of the latent-space map is 0.18215, but tiny-sd has 0.13"):
        find_bundle(tmp_path, MODEL, 0.13)
