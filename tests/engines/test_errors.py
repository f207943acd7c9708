"""Errors of an engine: their class, their field and their text are the same for every engine."""

from typing import Any

import pytest

from codec_wire.errors import CodecError, InvalidRequest, NotFound, OutOfMemory
from core.probe import sample_image
from core.service import LatentService
from tests.support.held_model import HeldFiles
from tests.support.service_calls import generate

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image": sample_image(1), "strength": 0.1, "steps": 2}, InvalidRequest),
        ({"image": sample_image(1)[:200], "steps": 2}, InvalidRequest),
        ({"size": (60, 60)}, InvalidRequest),
        ({"model": "unknown"}, NotFound),
        ({"pipeline": "delta+int8"}, InvalidRequest),
    ],
    ids=["strength", "broken image", "size", "model", "pipeline"],
)
async def test_error_has_the_class_and_text_of_the_local_engine(
    fields: dict[str, Any], expected: type[CodecError], service: LatentService, local: LatentService
) -> None:
    name = next(iter(local.models)).model.name  # the message of NotFound contains the names of all models
    service.models.replace([one for one in service.models if one.model.name == name])
    raised = []
    for each in (service, local):
        with pytest.raises(expected) as caught:
            await generate(each, **fields)
        raised.append((type(caught.value), str(caught.value), caught.value.field))
    assert raised[0] == raised[1]


@pytest.mark.parametrize(
    ("failure", "expected"),
    [("memory", OutOfMemory), ("allocator", OutOfMemory), ("bug", CodecError), ("exit", CodecError)],
)
async def test_failing_pipeline_raises_and_the_next_job_succeeds(
    failure: str, expected: type[CodecError], service: LatentService, files: HeldFiles
) -> None:
    files.failure.write_text(failure)
    with pytest.raises(CodecError) as caught:
        await generate(service)
    assert type(caught.value) is expected
    assert "secret" not in str(caught.value)
    assert await generate(service)


async def test_broken_image_is_refused_before_the_stream_starts(service: LatentService) -> None:
    with pytest.raises(InvalidRequest, match="image"):
        await generate(service, image=sample_image(1)[:200])
