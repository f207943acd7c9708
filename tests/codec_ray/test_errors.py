"""Errors of a replica are those of the local engine."""

from typing import Any

import pytest

from codec_wire.errors import CodecError, InvalidRequest, OutOfMemory
from core.probe import sample_image
from core.service import LatentService
from tests.support.held_model import HeldFiles
from tests.support.service_calls import generate

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "fields",
    [
        {"image": sample_image(1), "strength": 0.1, "steps": 2},
        {"image": sample_image(1)[:200], "steps": 2},
        {"size": (60, 60)},
        {"model": "unknown"},
        {"pipeline": "delta+int8"},
    ],
    ids=["strength", "broken image", "size", "model", "pipeline"],
)
async def test_error_has_the_class_and_text_of_the_local_engine(
    fields: dict[str, Any], service: LatentService, local: LatentService
) -> None:
    service.models.replace(one for one in service.models if one.model.name == next(iter(local.models)).model.name)
    raised = []
    for front in (service, local):
        with pytest.raises(CodecError) as caught:
            await generate(front, **fields)
        raised.append((type(caught.value), str(caught.value), caught.value.field))
    assert raised[0] == raised[1]


async def test_memory_error_keeps_its_class(service: LatentService, files: HeldFiles) -> None:
    files.failure.write_text("memory")
    with pytest.raises(OutOfMemory):
        await generate(service)


async def test_unexpected_error_does_not_show_its_text(service: LatentService, files: HeldFiles) -> None:
    files.failure.write_text("bug")
    with pytest.raises(CodecError) as caught:
        await generate(service)
    assert type(caught.value) is CodecError
    assert "secret" not in str(caught.value)


async def test_broken_image_is_refused_before_the_stream_starts(service: LatentService) -> None:
    with pytest.raises(InvalidRequest, match="image"):
        await generate(service, image=sample_image(1)[:200])
