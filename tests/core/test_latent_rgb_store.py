"""The file of the latent-to-RGB matrix in the folder of a map."""

from pathlib import Path

import pytest

from codec_pixels.known_models import EMBEDDED
from codec_wire.maps.latent_rgb import LatentRgb
from core.map_store import RGB_FILE, bundle_folder, find_latent_rgb, store_latent_rgb

MATRIX = LatentRgb(latent_space="x/y", matrix=((1.0, 0.0, 0.0), (0.0, 0.5, 0.0)), bias=(0.0, 0.5, 1.0))


def test_stored_matrix_is_found(tmp_path: Path) -> None:
    folder = bundle_folder(tmp_path, "x/y")
    folder.mkdir(parents=True)
    assert find_latent_rgb(tmp_path, "x/y", 2) is None
    store_latent_rgb(folder, MATRIX)
    assert find_latent_rgb(tmp_path, "x/y", 2) == MATRIX
    assert find_latent_rgb(tmp_path / "x", "../x/y", 2) is None


@pytest.mark.parametrize(("document", "channels"), [(b"{", 2), (MATRIX.serialize(), 3)])
def test_unusable_file_is_ignored_with_a_warning(
    document: bytes, channels: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = bundle_folder(tmp_path, "x/y")
    folder.mkdir(parents=True)
    (folder / RGB_FILE).write_bytes(document)
    assert find_latent_rgb(tmp_path, "x/y", channels) is None
    assert "latent_rgb.json is ignored" in caplog.text


def test_embedded_model_has_a_matrix(tmp_path: Path) -> None:
    found = find_latent_rgb(tmp_path, EMBEDDED.latent_space, 4)
    assert found is not None
    assert found.latent_space == EMBEDDED.latent_space
