"""What is generated to make a map: sizes, prompts, and what is held out."""

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from codec_maps.corpus import corpus_requests, corpus_sizes, default_prompts, generate_corpus
from codec_wire.errors import OutOfMemory
from codec_wire.latents import Modality
from core.engine import Event, Job
from core.plan import StreamPlan
from core.served import ModelInstance
from tests.support.fake_engine import FakeEngine
from tests.support.serving import MODEL, VIDEO_MODEL, bundle_of

FIXTURES = [(256, 256), (512, 512)]


@pytest.mark.parametrize(
    ("own", "sizes"),
    [
        ((256, 256), [(256, 256), (512, 512), (384, 256)]),
        ((512, 512), [(512, 512), (256, 256), (768, 512)]),
        ((1024, 1024), [(1024, 1024), *FIXTURES, (1536, 1024)]),
        ((64, 64), [(64, 64), (96, 64)]),
        ((2048, 2048), [(2048, 2048), *FIXTURES]),
    ],
)
def test_sizes_differ(own: tuple[int, int], sizes: list[tuple[int, int]]) -> None:
    assert corpus_sizes(replace(MODEL, default_size=own)) == sizes


def test_held_out_requests_share_neither_prompt_nor_seed() -> None:
    requests = corpus_requests(MODEL, default_prompts(), 64)
    held = [request for request, held_out in requests if held_out]
    used = [request for request, held_out in requests if not held_out]
    assert (len(used), len(held)) == (48, 16)
    assert not {request.prompt for request in held} & {request.prompt for request in used}
    assert len({request.seed for request, _ in requests}) == 64
    for part in (held, used):
        assert {request.size for request in part} == set(corpus_sizes(MODEL))
        assert sum(request.size == MODEL.default_size for request in part) == len(part) / 2


def test_few_prompts_serve_both() -> None:
    requests = corpus_requests(MODEL, ["a sea", "a desert"], 8)
    assert {request.prompt for request, held_out in requests if held_out} == {"a sea", "a desert"}


def test_a_model_that_makes_both_gives_of_both() -> None:
    both = replace(VIDEO_MODEL, modalities=(Modality.IMAGE, Modality.VIDEO))
    made = [request.modality for request, _ in corpus_requests(both, ["a sea"], 8)]
    assert made == [Modality.IMAGE] * 4 + [Modality.VIDEO] * 4


class SmallEngine(FakeEngine):
    """Has memory for pictures up to 256x256."""

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        if plan.width * plan.height > 256 * 256:
            raise OutOfMemory("the device has too little memory")
        async for event in super().generate(plan, job):
            yield event


async def test_a_size_that_does_not_fit_is_left_out_unless_it_is_the_models_own() -> None:
    engine = SmallEngine(free_running=True)
    done: list[int] = []
    samples = await generate_corpus(ModelInstance(MODEL, bundle_of(MODEL), engine, "test"), ["x"], 8, done.append)
    assert {sample.request.size for sample in samples} == {(256, 256)}
    assert done == list(range(1, 9))
    large = replace(MODEL, default_size=(512, 512))
    with pytest.raises(OutOfMemory):
        await generate_corpus(ModelInstance(large, bundle_of(large), engine, "test"), ["x"], 8, done.append)
