"""A server does not start with a latent-space map whose files were changed after they had been written."""

from pathlib import Path

import pytest

from codec_server.local_model import LocalModel
from codec_wire.errors import InvalidMap
from codec_wire.maps import LatentMapBundle
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.map_store import bundle_folder
from core.service import LatentService
from core.settings import Settings
from tests.support.dictionaries import DIGEST, with_dictionary
from tests.support.tiny_sd import save_model_and_map

pytestmark = pytest.mark.slow


def flip_bit(path: Path, position: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position // 8] ^= 1 << position % 8
    path.write_bytes(data)


async def reason_of_failure(models_dir: Path) -> str:
    """Return the message of the error with which a server of the model in `models_dir` does not start."""
    local = LocalModel(Settings(model="tiny-sd", models_dir=models_dir, device="cpu", threads=1))
    try:
        with pytest.raises(InvalidMap) as caught:
            await local.start_serving(LatentService(Lifecycle(), Admission(1, 10**12)))
    finally:
        local.free()
    return str(caught.value)


@pytest.mark.parametrize("file", ["scales", "dictionary", "map.json", "map.json.sha256"])
async def test_corrupt_file_of_the_map_is_reported_with_its_name(file: str, tmp_path: Path) -> None:
    save_model_and_map(tmp_path, "tiny-sd-vae")
    folder = bundle_folder(tmp_path, "tiny-sd-vae")
    bundle = with_dictionary(LatentMapBundle.from_folder(folder))
    bundle.write(folder)
    scales = bundle.latent_map.pipelines[1].static_scales
    assert scales is not None
    digests = {"scales": scales.hash, "dictionary": DIGEST}
    digest = digests.get(file, "").removeprefix("sha256:")
    flip_bit(folder / "assets" / digest if digest else folder / file, 100 if file != "scales" else 5)
    reason = await reason_of_failure(tmp_path)
    assert str(folder) in reason
    if digest:
        what = {"scales": "static scales of int8", "dictionary": "zstd dictionary for msgpack int8"}[file]
        assert f"{what} in the map of tiny-sd-vae: the hash is sha256:" in reason
        assert f"expected sha256:{digest}" in reason
    else:
        assert "map.json has the hash sha256:" in reason
        assert "map.json.sha256 contains" in reason
