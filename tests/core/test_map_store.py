"""Maps that a server has calibrated itself: damage is repaired by calibration. Other maps must be complete."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from codec_wire.errors import InvalidMap
from core.map_store import bundle_folder, find_bundle, store_calibrated
from tests.support.dictionaries import bundle_with_dictionary
from tests.support.serving import LATENT_SPACE, MODEL, bundle_of

SCALE_FACTOR = 0.18215


def remove_asset(folder: Path) -> None:
    next((folder / "assets").iterdir()).unlink()


def remove_hash(folder: Path) -> None:
    (folder / "map.json.sha256").unlink()


def cut_document(folder: Path) -> None:
    (folder / "map.json").write_bytes((folder / "map.json").read_bytes()[:100])


def empty_document(folder: Path) -> None:
    (folder / "map.json").write_bytes(b"")


DAMAGES = [remove_asset, remove_hash, cut_document, empty_document]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_map_of_the_server_itself_is_not_found_and_logged(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = bundle_folder(tmp_path, LATENT_SPACE)
    store_calibrated(folder, bundle_of(MODEL))
    assert find_bundle(tmp_path, MODEL, SCALE_FACTOR) == bundle_of(MODEL)
    assert caplog.records == []
    damage(folder)
    with caplog.at_level(logging.WARNING):
        assert find_bundle(tmp_path, MODEL, SCALE_FACTOR) is None
    (record,) = caplog.records
    assert str(folder) in record.message
    assert record.message.endswith("; this map was calibrated by the server and will be calibrated again")
    assert "\n" not in record.message
    store_calibrated(folder, bundle_of(MODEL))
    assert find_bundle(tmp_path, MODEL, SCALE_FACTOR) == bundle_of(MODEL)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_map_of_a_user_raises_invalid_map(damage: Callable[[Path], None], tmp_path: Path) -> None:
    folder = bundle_folder(tmp_path, LATENT_SPACE)
    bundle_of(MODEL).write(folder)
    damage(folder)
    with pytest.raises(InvalidMap, match=str(folder)):
        find_bundle(tmp_path, MODEL, SCALE_FACTOR)


def test_damaged_map_that_replaced_a_calibrated_one_raises_invalid_map(tmp_path: Path) -> None:
    folder = bundle_folder(tmp_path, LATENT_SPACE)
    store_calibrated(folder, bundle_of(MODEL))
    bundle_with_dictionary().write(folder)
    cut_document(folder)
    with pytest.raises(InvalidMap, match=str(folder)):
        find_bundle(tmp_path, MODEL, SCALE_FACTOR)
