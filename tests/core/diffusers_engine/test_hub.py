"""Models on the hub: a hub that does not respond is reported within seconds, a cached model needs no network."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codec_pixels.device import Device
from codec_wire.errors import ModelLoadError
from core.diffusers_engine.loader import ModelSource, load
from tests.support.tiny_sd import build_small_pipeline

LIMIT_S = 10.0
COMMIT = "0" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of an empty hub cache."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture(params=["closed port", "no response"])
def endpoint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a hub that refuses connections, or accepts them and never responds."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if request.param == "no response":
            listener.listen()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        yield address


@pytest.mark.slow
def test_unreachable_hub_is_reported_within_seconds_with_its_address_and_a_remedy(
    endpoint: str, cache: Path, device: Device, tmp_path: Path
) -> None:
    del cache
    started = time.monotonic()
    with pytest.raises(ModelLoadError) as caught:
        load(ModelSource("someone/something", None, tmp_path), device)
    assert time.monotonic() - started < LIMIT_S
    message = str(caught.value)
    assert message.startswith(
        f"cannot load someone/something: the Hugging Face Hub ({endpoint}) could not be reached: "
    )
    assert message.endswith("use --model with the directory of a local copy")
    assert "\n" not in message


@pytest.mark.slow
def test_cached_model_is_loaded_although_the_hub_does_not_respond(
    endpoint: str, cache: Path, device: Device, tmp_path: Path
) -> None:
    del endpoint
    repository = cache / "models--someone--something"
    build_small_pipeline().save_pretrained(repository / "snapshots" / COMMIT, variant="fp16")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    model = load(ModelSource("someone/something", None, tmp_path), device)
    assert model.info.name == "someone/something"


def test_offline_mode_is_named_as_the_reason(
    cache: Path, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cache
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelLoadError, match=r"something: offline mode is on \(HF_HUB_OFFLINE\), and the local cache does not"
    ):
        load(ModelSource("someone/something", None, tmp_path), device)
