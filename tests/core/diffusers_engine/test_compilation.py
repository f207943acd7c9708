"""Compilation of the denoiser at the start: afterwards, no generation of a known form needs other code."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from codec_pixels.device import Device
from core.diffusers_engine.batch import BatchMember
from core.diffusers_engine.compilation import compile_denoiser
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample, sample_batch
from core.engine import Job
from core.guidance_interval import GuidanceInterval
from core.plan import StreamPlan
from core.switches import FAST_DEFAULTS, Switches
from tests.support.batches import plans_of
from tests.support.factories import load_from_factory

pytestmark = pytest.mark.slow


@pytest.fixture
def model(device: Device, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadedModel]:
    """A model with the default guidance interval that is not compiled yet.

    torch's backend "eager" captures the same graphs as the compiler and runs them as they are.
    """
    loaded = load_from_factory("tests.support.tiny_sd:build_pipeline", device)
    unet = loaded.pipeline.unet
    monkeypatch.setattr(unet, "compile", partial(unet.compile, backend="eager"))
    interval = GuidanceInterval.parse(FAST_DEFAULTS["guidance_interval"])
    variants = tuple(replace(one, guidance_interval=interval) for one in loaded.variants)
    yield replace(loaded, variants=variants, switches=Switches(compile="full"))
    torch.compiler.set_stance("default")
    torch.compiler.reset()


def generate(model: LoadedModel, plan: StreamPlan) -> None:
    sample(model, plan, Job(), lambda _done, _total: None)


def test_no_form_that_was_compiled_at_the_start_is_compiled_again(model: LoadedModel, tmp_path: Path) -> None:
    warm_up, *_ = plans_of(model, steps=4)
    one, *others = plans_of(model, steps=25)
    compile_denoiser(model, [warm_up], tmp_path, batch_size=3)
    torch.compiler.set_stance("fail_on_recompile")
    generate(model, one)
    members = [BatchMember(plan, Job(), decode_inputs(plan), lambda _done, _total: None) for plan in (one, *others)]
    sample_batch(model, members)
    with pytest.raises(RuntimeError, match="recompile"):
        generate(model, plans_of(model, size=(128, 64))[0])
