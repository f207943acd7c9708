"""Golden fixtures of the reference model, made once: the 256 picture and a short video."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from golden.build import Builder
from golden.fixtures import read_suite
from golden.folder import Golden, find_golden, latents_bytes
from golden.reference import ReferenceModel
from tests.support.reference_model import SUITE, settings_for, write_map


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models directory with the reference model's map, without thresholds."""
    folder = tmp_path_factory.mktemp("golden-models")
    write_map(folder)
    return folder


@pytest.fixture(scope="session")
def reference(models_dir: Path) -> Iterator[ReferenceModel]:
    model = ReferenceModel(settings_for(models_dir))
    yield model
    model.close()


@pytest.fixture(scope="session")
def golden_folder(tmp_path_factory: pytest.TempPathFactory, reference: ReferenceModel) -> Path:
    """The 256 picture, sampled, and the short video, whose latents pass from one sampled picture to another."""
    folder, captures = tmp_path_factory.mktemp("golden"), tmp_path_factory.mktemp("captures")
    suite = read_suite(None)
    picture, video = suite.fixtures["256"], suite.fixtures["video-short"]
    Builder(reference, SUITE, folder).build("256", picture, lambda _done, _total: None).write()
    (captures / "video-short.bin").write_bytes(latents_bytes(moving_latents(reference)))
    Builder(reference, SUITE, folder, captures).build("video-short", video, lambda _done, _total: None).write()
    return folder


@pytest.fixture(scope="session")
def goldens(golden_folder: Path) -> list[Golden]:
    return find_golden(golden_folder, None)


def moving_latents(reference: ReferenceModel) -> NDArray[np.float16]:
    """Return the latents of the short video."""
    suite = read_suite(None).fixtures
    still = suite["256"].model_copy(update={"resolution": suite["video-short"].resolution, "steps": 5})
    ends = [reference.latents(still.model_copy(update={"seed": seed}), lambda _d, _t: None)[0] for seed in (1, 2)]
    first, last = (end.astype(np.float32) for end in ends)
    count = suite["video-short"].frames
    return np.stack([first + (last - first) * number / (count - 1) for number in range(count)]).astype(np.float16)
