"""Sample requests for a map: sizes, prompts and held-out samples."""

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
def test_corpus_sizes(own: tuple[int, int], sizes: list[tuple[int, int]]) -> None:
    assert corpus_sizes(replace(MODEL, default_size=own)) == sizes


def test_held_out_requests_use_other_prompts_and_seeds() -> None:
    requests = corpus_requests(MODEL, default_prompts(), 64)
    held = [request for request, held_out in requests if held_out]
    used = [request for request, held_out in requests if not held_out]
    assert (len(used), len(held)) == (48, 16)
    assert not {request.prompt for request in held} & {request.prompt for request in used}
    assert len({request.seed for request, _ in requests}) == 64
    for part in (held, used):
        assert {request.size for request in part} == set(corpus_sizes(MODEL))
        assert sum(request.size == MODEL.default_size for request in part) == len(part) / 2


def test_few_prompts_are_shared_with_held_out_requests() -> None:
    requests = corpus_requests(MODEL, ["a sea", "a desert"], 8)
    assert {request.prompt for request, held_out in requests if held_out} == {"a sea", "a desert"}


def test_requests_are_divided_among_modalities() -> None:
    both = replace(VIDEO_MODEL, modalities=(Modality.IMAGE, Modality.VIDEO))
    modalities = [request.modality for request, _ in corpus_requests(both, ["a sea"], 8)]
    assert modalities == [Modality.IMAGE] * 4 + [Modality.VIDEO] * 4


class SmallEngine(FakeEngine):
    """Runs out of memory above 256x256 pixels."""

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        if plan.width * plan.height > 256 * 256:
            raise OutOfMemory("the device ran out of memory")
        async for event in super().generate(plan, job):
            yield event


async def test_out_of_memory_skips_a_sample_unless_it_has_the_default_size() -> None:
    engine = SmallEngine(free_running=True)
    done: list[int] = []
    samples = await generate_corpus(ModelInstance(MODEL, bundle_of(MODEL), engine, "test"), ["x"], 8, done.append)
    assert {sample.request.size for sample in samples} == {(256, 256)}
    assert done == list(range(1, 9))
    large = replace(MODEL, default_size=(512, 512))
    with pytest.raises(OutOfMemory):
        await generate_corpus(ModelInstance(large, bundle_of(large), engine, "test"), ["x"], 8, done.append)
