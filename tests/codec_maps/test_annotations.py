"""Quality thresholds and the hash of the decoder's weights in a map."""

import json
from pathlib import Path

import pytest

from codec_maps.annotations import read_thresholds, with_decoder_weights, with_onnx_decoder, with_thresholds
from codec_wire.errors import InvalidMap, InvalidSettings
from codec_wire.maps.document import QualityThresholds
from tests.support.serving import MODEL, bundle_of

BOUNDS = {"int8": {"ssim_min": 0.98, "psnr_min_db": 38, "lpips_max": 0.01, "fixture_suite": "golden/1"}, "raw": {}}


def test_with_thresholds_changes_only_the_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps(BOUNDS))
    plain = bundle_of(MODEL)
    bundle = with_thresholds(plain, read_thresholds(path))
    entry = bundle.latent_map.pipeline("int8")
    assert entry is not None
    assert entry.quality_thresholds is not None
    assert entry.quality_thresholds.model_dump() == BOUNDS["int8"]
    assert bundle.hash != plain.hash
    assert bundle.assets == plain.assets
    document = json.loads(bundle.document)
    for listed in document["pipelines"]:
        listed.pop("quality_thresholds", None)
    assert document == json.loads(plain.document)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("{", "document: Invalid JSON"),
        ('{"int8": {"ssim_min": 2}}', "int8.ssim_min: Input should be less than or equal to 1, got 2"),
        ('{"int8": {"ssim": 1}}', "int8.ssim: Extra inputs are not permitted"),
    ],
)
def test_invalid_thresholds_file_raises_invalid_settings_naming_the_key(
    content: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "thresholds.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidSettings) as caught:
        read_thresholds(path)
    assert message in str(caught.value)


def test_thresholds_of_an_unlisted_pipeline_raise_invalid_map() -> None:
    with pytest.raises(InvalidMap, match=r"pipeline 'delta\+int8' is not in the map of .*; allowed: raw, int8, "):
        with_thresholds(bundle_of(MODEL), {"delta+int8": QualityThresholds(ssim_min=0.9, lpips_max=0.1)})


def test_weights_of_a_decoder_are_named_only_in_the_map_of_a_torch_decoder() -> None:
    plain, digest = bundle_of(MODEL), f"sha256:{'a' * 64}"
    bundle = with_decoder_weights(plain, digest)
    assert bundle.latent_map.decoder is not None
    assert bundle.latent_map.decoder.weights_hash == digest
    assert bundle.assets == plain.assets
    with pytest.raises(InvalidMap, match=r"decoder\.family in the map of .* must be torch, got onnx"):
        with_decoder_weights(with_onnx_decoder(plain, digest), digest)
