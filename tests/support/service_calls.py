"""Complete jobs of a service, without a protocol."""

from contextlib import aclosing
from typing import Any

from codec_wire.events import Frame, Preview, Started, Step
from codec_wire.latents import LatentFrame, LatentStreamHeader, Modality
from codec_wire.request import GenerationRequest
from core.engine import Job
from core.service import LatentService

Stream = tuple[LatentStreamHeader, list[LatentFrame]]


def request_for(**fields: Any) -> GenerationRequest:
    """Return a request for a 64x64 image in two steps; `fields` replace its fields or add to them."""
    values: dict[str, Any] = {"prompt": "a snowy mountain", "size": (64, 64), "steps": 2, "seed": 7}
    return GenerationRequest(**(values | {"modality": Modality.IMAGE} | fields))


async def generate(service: LatentService, job: Job | None = None, **fields: Any) -> Stream:
    """Return the header and the frames of `request_for(**fields)`."""
    events = await generate_events(service, job, **fields)
    started, *frames = [event for event in events if not isinstance(event, Step | Preview)]
    assert isinstance(started, Started)
    assert all(isinstance(frame, Frame) for frame in frames)
    return started.header, [frame.frame for frame in frames]


async def generate_events(service: LatentService, job: Job | None = None, **fields: Any) -> list[Any]:
    """Return the events of `request_for(**fields)`."""
    plan = service.plan(request_for(**fields))
    async with aclosing(service.generate(plan, job or Job())) as events:
        return [event async for event in events]
