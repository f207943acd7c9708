"""Golden fixtures of the embedded model, built once: the 256 image and the short video."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from codec_golden.evaluation import EvaluationResult, evaluate
from codec_golden.reference import ReferenceModel
from codec_golden.storage import GoldenFixture, find_fixtures
from tests.support.reference_model import settings_for, shipped_bundle, write_goldens, write_map


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models directory with the map of the embedded model."""
    folder = tmp_path_factory.mktemp("golden-models")
    write_map(folder, shipped_bundle())
    return folder


@pytest.fixture(scope="session")
def reference(models_dir: Path) -> Iterator[ReferenceModel]:
    model = ReferenceModel(settings_for(models_dir))
    yield model
    model.close()


@pytest.fixture(scope="session")
def golden_folder(tmp_path_factory: pytest.TempPathFactory, reference: ReferenceModel) -> Path:
    """A golden folder with the 256 image and the short video."""
    return write_goldens(tmp_path_factory.mktemp("golden"), reference, "256", "video-short")


@pytest.fixture(scope="session")
def goldens(golden_folder: Path) -> list[GoldenFixture]:
    return find_fixtures(golden_folder, None)


@pytest.fixture(scope="session")
def evaluation(golden_folder: Path, models_dir: Path) -> EvaluationResult:
    """The result of the gate for both fixtures, with every pipeline."""
    silent = nullcontext(lambda _name: None)
    return evaluate(settings_for(models_dir), golden_folder, None, None, None, progress=lambda _total: silent)
