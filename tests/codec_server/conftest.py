"""Fixtures for the tests of the commands: their environment, and servers of the small pipeline."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.background import background_servers
from tests.support.serving import Servers
from tests.support.tiny_sd import build_bundle


@pytest.fixture
def command_environment(models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands use the models directory of the tests and an empty cache directory."""
    monkeypatch.setenv("CODEC_MODELS_DIR", str(models_dir))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def servers(engine: DiffusersEngine, tiny_model: LoadedModel) -> Iterator[Servers]:
    """An HTTP and a gRPC server of the model tiny-sd, which the models directory of the tests also contains."""
    info = replace(tiny_model.info, name="tiny-sd", latent_space="tiny-sd-vae")
    with background_servers(engine, info, bundle=build_bundle("tiny-sd-vae")) as (found, _):
        yield found
