"""The local model with a client's surface: what `generate` uses where no server is named."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import typer

from codec_client.client import LatentClient
from codec_client.results import ServedModel
from codec_client.stream import Arrival
from codec_server.errors import ExitStatus
from codec_server.local_model import LocalModel
from codec_wire.errors import NotFound
from codec_wire.events import StreamEvent
from codec_wire.maps import LatentMapBundle
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.engine import Job
from core.lifecycle import Lifecycle
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings


class InProcessClient(LatentClient):
    """Generates with the model that `settings` name, in this process. See LatentClient."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(retries=0, **options)
        self._model = LocalModel(settings)
        self.service = LatentService(Lifecycle(), Admission(settings.max_jobs, settings.max_cost))
        self.used: ModelInstance | None = None
        """What the last generation was made with."""

    async def load(self) -> None:
        """Load and warm the model. Raises StartupError."""
        await self._model.bring_up(self.service)

    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return the model's latent-space map. See LatentClient."""
        bundles = self.service.models.maps()
        for bundle in bundles.values():
            if digest in (None, bundle.hash):
                return bundle
        hashes = ", ".join(bundle.hash for bundle in bundles.values())
        raise NotFound("map", f"the model has {hashes}, wanted is {digest}")

    async def models(self) -> list[ServedModel]:
        """Return the models in this process. See LatentClient."""
        return [
            ServedModel(
                name=served.model.name,
                aliases=served.model.aliases,
                modalities=served.model.modalities,
                latent_space=served.model.latent_space,
                map_hash=served.bundle.hash,
            )
            for served in self.service.models.require_all()
        ]

    async def close(self) -> None:
        """Free the model."""
        if not await asyncio.to_thread(self._model.free):
            # Only an interrupted load still runs: it cannot be stopped, and the interpreter would wait for it.
            typer.echo("interrupted", err=True)
            os._exit(ExitStatus.INTERRUPTED)

    async def _events(
        self, request: GenerationRequest, arrival: Arrival, seconds: float
    ) -> AsyncGenerator[StreamEvent, None]:
        arrival.answered = True
        plan = self.service.plan(request)
        self.used = self.service.models.for_plan(plan)
        self._is_of_map(arrival, self.used.bundle.hash)
        job = Job(deadline=asyncio.get_running_loop().time() + seconds)
        async with aclosing(self.service.generate(plan, job)) as events:
            async for event in events:
                yield event
