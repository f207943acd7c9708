"""The benchmark for GPUs, with tiny pipelines on the CPU, and the sizes of its full-size architectures."""

from collections.abc import Mapping

import pytest
import torch

from bench.full_models import FULL, build_on, tiny_models
from bench.gpu import FAST, GOALS, LOOP, REFERENCE, TOGETHER, different_pipelines, main, measure_model, section_of

PARAMETERS: Mapping[str, Mapping[str, int]] = {
    "sd15": {"unet": 859_520_964, "text_encoder": 123_060_480, "vae": 83_653_863},
    "sdxl": {"unet": 2_567_463_684, "text_encoder_2": 694_659_840, "vae": 83_653_863},
    "flux-schnell": {"transformer": 11_891_178_560, "text_encoder_2": 4_762_310_656, "vae": 83_819_683},
}
"""Numbers of parameters of the published models."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_architectures_have_the_sizes_of_the_published_models(name: str) -> None:
    pipeline = build_on(torch.device("meta"), torch.bfloat16, FULL[name].build)
    sizes = {part: sum(one.numel() for one in getattr(pipeline, part).parameters()) for part in PARAMETERS[name]}
    assert sizes == PARAMETERS[name]
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_tiny_pipelines_are_measured_on_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")  # compiling takes minutes
    speeds = measure_model(name, tiny_models()[name], "cpu", rounds=1, images=1)
    assert list(speeds) == [LOOP, REFERENCE, FAST, TOGETHER]
    assert min(speeds.values()) > 0


def test_every_latent_pipeline_is_encoded_on_the_device_and_on_the_cpu() -> None:
    assert different_pipelines("cpu", (4, 9, 7)) == []


def test_goals_compare_every_program_with_the_loop() -> None:
    speeds = {LOOP: 2.0, REFERENCE: 2.2, FAST: 5.0, TOGETHER: 7.0}
    section = section_of({"sd15": speeds}, ["int8, fp16"], "a GPU")
    assert [goal.limit for goal in section.goals] == [*GOALS.values(), 0]
    assert [goal.met for goal in section.goals] == [True, True, False, False]
    assert "int8, fp16" in section.markdown()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_full_size_without_a_gpu_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench.gpu"])
    with pytest.raises(SystemExit):
        main()
    assert "no GPU found; --tiny measures tiny pipelines" in capsys.readouterr().err
