"""Client that runs the model in this process. `generate` uses it if no server is given."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import typer

from codec_client.client import LatentClient
from codec_client.results import ServedModel
from codec_client.stream import ResponseState
from codec_server.errors import ExitStatus
from codec_server.local_model import LocalModel
from codec_wire.errors import NotFound
from codec_wire.events import StreamEvent
from codec_wire.latents import Modality
from codec_wire.maps import LatentMapBundle
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.engine import Job
from core.lifecycle import Lifecycle
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings


class InProcessClient(LatentClient):
    """Generates with the model that `settings` select, in this process. See LatentClient."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(retries=0, **options)
        self._model = LocalModel(settings)
        self.service = LatentService(Lifecycle(), Admission(settings.max_jobs, settings.max_cost))
        self.used: ModelInstance | None = None
        """The model that ran the last generation."""

    async def load(self, modality: Modality | None = None) -> None:
        """Load and warm up the model, for `modality` or for all if it is None. Raises StartupError."""
        await self._model.start_serving(self.service, modality)

    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return the model's latent-space map. See LatentClient.latent_map."""
        bundles = self.service.models.maps()
        for bundle in bundles.values():
            if digest in (None, bundle.hash):
                return bundle
        hashes = ", ".join(bundle.hash for bundle in bundles.values())
        raise NotFound("map", f"{digest} not found; the loaded models use {hashes}")

    async def models(self) -> list[ServedModel]:
        """Return the models in this process. See LatentClient.models."""
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
        """Release the model."""
        if not await asyncio.to_thread(self._model.free):
            # Loading cannot be interrupted, and the interpreter would wait for its thread.
            typer.echo("interrupted", err=True)
            os._exit(ExitStatus.INTERRUPTED)

    async def _events(
        self, request: GenerationRequest, response: ResponseState, timeout_s: float
    ) -> AsyncGenerator[StreamEvent, None]:
        response.started = True
        plan = self.service.plan(request)
        self.used = self.service.models.for_plan(plan)
        self._record_map_hash(response, self.used.bundle.hash)
        job = Job(deadline=asyncio.get_running_loop().time() + timeout_s, reports_steps=True)
        async with aclosing(self.service.generate(plan, job)) as events:
            async for event in events:
                yield event
