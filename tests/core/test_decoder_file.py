"""The exported decoder in the folder of a map."""

import os
from pathlib import Path

import pytest

from codec_maps.annotations import with_onnx_decoder
from codec_pixels.known_models import EMBEDDED, EMBEDDED_MODELS_DIR
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import sha256
from core.decoder_file import DECODER_FILE, find_decoder
from core.map_store import bundle_folder
from tests.support.serving import LATENT_SPACE, MODEL, bundle_of

DATA = b"an ONNX model"


def store(models_dir: Path, bundle: LatentMapBundle, decoder: bytes | None) -> None:
    folder = bundle_folder(models_dir, LATENT_SPACE)
    bundle.write(folder)
    if decoder is not None:
        (folder / DECODER_FILE).write_bytes(decoder)


def test_decoder_next_to_the_map_is_found(tmp_path: Path) -> None:
    bundle = bundle_of(MODEL)
    assert find_decoder(tmp_path, bundle) is None
    store(tmp_path, bundle, None)
    assert find_decoder(tmp_path, bundle) is None
    store(tmp_path, bundle, DATA)
    found = find_decoder(tmp_path, bundle)
    assert found is not None
    assert (found.hash, found.size_bytes, found.path.read_bytes()) == (sha256(DATA), len(DATA), DATA)
    assert find_decoder(None, bundle) is None


def test_decoder_of_another_map_of_the_same_latent_space_is_not_used(tmp_path: Path) -> None:
    bundle = bundle_of(MODEL)
    store(tmp_path, bundle, DATA)
    assert find_decoder(tmp_path, with_onnx_decoder(bundle, sha256(DATA))) is None


def test_decoder_with_another_hash_than_in_the_map_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = with_onnx_decoder(bundle_of(MODEL), sha256(DATA))
    store(tmp_path, bundle, DATA)
    assert find_decoder(tmp_path, bundle) is not None
    store(tmp_path, bundle, DATA[:-1])
    assert find_decoder(tmp_path, bundle) is None
    assert "but the latent-space map names" in caplog.text


def test_replaced_decoder_is_noticed(tmp_path: Path) -> None:
    bundle = bundle_of(MODEL)
    store(tmp_path, bundle, DATA)
    found = find_decoder(tmp_path, bundle)
    assert found is not None
    assert found.is_unchanged()
    os.utime(found.path, ns=(0, 0))
    assert not found.is_unchanged()
    found.path.unlink()
    assert not found.is_unchanged()


def test_embedded_model_has_a_decoder_also_in_a_gateway(tmp_path: Path) -> None:
    bundle = LatentMapBundle.from_folder(bundle_folder(EMBEDDED_MODELS_DIR, EMBEDDED.latent_space))
    for models_dir in (tmp_path, None):
        found = find_decoder(models_dir, bundle)
        assert found is not None
        assert found.size_bytes < 3_000_000
