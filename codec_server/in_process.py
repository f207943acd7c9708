"""Client that runs the model in this process. The command `generate` uses this client if no server is given."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import typer

from codec_client.client import LatentClient
from codec_client.latent_requests import RGB, DecodingRequest, EncodingRequest
from codec_client.received_pixels import ReceivedPixels
from codec_client.results import ServedModel
from codec_client.stream import ResponseState
from codec_server.errors import ExitStatus
from codec_server.local_model import LocalModel
from codec_wire.errors import NotFound
from codec_wire.events import StreamEvent
from codec_wire.http import parse_parameters
from codec_wire.latents import Modality
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.latent_rgb import LatentRgb
from codec_wire.message_decoder import Message
from codec_wire.request import GenerationRequest
from core import decoding, encoding
from core.admission import Admission
from core.decode_plan import DecodePlan, DecodeRequest
from core.encode_plan import EncodeRequest
from core.engine import Job
from core.lifecycle import Lifecycle
from core.pixel_format import PixelFormat
from core.received_stream import BodyReader
from core.response_parameters import response_parameters
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings


class InProcessClient(LatentClient):
    """Client that generates in this process with the model that `settings` select. See LatentClient."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(retries=0, **options)
        self._model = LocalModel(settings)
        self.service = LatentService(Lifecycle(), Admission(settings.max_jobs, settings.max_cost))
        self.used: ModelInstance | None = None
        """The model that ran the last generation."""

    async def load(self, modality: Modality | None = None) -> None:
        """Load and warm up the model for `modality`, or for all modalities by default.

        Raises StartupError if the model cannot be loaded.
        """
        await self._model.load(self.service, modality)

    async def latent_map(self, digest: str | None = None) -> LatentMapBundle:
        """Return the latent-space map of the model. See LatentClient.latent_map."""
        bundles = self.service.models.maps()
        for bundle in bundles.values():
            if digest in (None, bundle.hash):
                return bundle
        hashes = ", ".join(bundle.hash for bundle in bundles.values())
        raise NotFound("map", f"{digest} not found; the loaded models have the maps {hashes}")

    async def latent_rgb(self, latent_space: str | None = None) -> LatentRgb:
        """Return a matrix that converts latents to RGB values. See LatentClient.latent_rgb."""
        return self.service.models.require_latent_rgb(latent_space)

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
        """Release the memory of the model."""
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
        response.record_map_hash(self.used.bundle.hash, self.pinned_map)
        response.parameters = parse_parameters(response_parameters(plan, self.used, self.service.provenance))
        job = Job(deadline=asyncio.get_running_loop().time() + timeout_s, reports_steps=True)
        async with aclosing(self.service.generate(plan, job)) as events:
            async for event in events:
                yield event

    async def _encoded_events(
        self, request: EncodingRequest, response: ResponseState, timeout_s: float
    ) -> AsyncGenerator[StreamEvent, None]:
        response.started = True
        wanted = EncodeRequest(
            file=request.file,
            model=request.model,
            latent_space=request.latent_space,
            pipeline=request.pipeline,
            size=request.size,
            keyframe_interval=request.keyframe_interval,
            seed=request.seed,
            map_pin=self.pinned_map,
        )
        plan, _ = encoding.plan(self.service, wanted)
        response.record_map_hash(plan.map_hash, self.pinned_map)
        async with aclosing(encoding.encode(self.service, plan, _job(timeout_s))) as events:
            async for event in events:
                yield event

    async def _decoded_pixels(
        self, request: DecodingRequest, response: ResponseState, timeout_s: float
    ) -> ReceivedPixels:
        response.started = True
        pixel_format = PixelFormat(request.pixel_format)
        wanted = DecodeRequest(
            image_formats=() if pixel_format is PixelFormat.MP4 else (pixel_format,),
            video_formats=() if request.is_image_file else (pixel_format,),
            model=request.model,
            map_pin=self.pinned_map,
            quality=request.quality,
        )
        pixels = ReceivedPixels()
        messages = self._messages(request)
        async with aclosing(decoding.decode(self.service, wanted, messages, _job(timeout_s))) as parts:
            async for part in parts:
                if not isinstance(part, DecodePlan):
                    pixels.add(part)
                    continue
                response.record_map_hash(part.map_hash, self.pinned_map)
                if request.pixel_format == RGB:
                    pixels.shape = (part.num_frames, part.height, part.width, 3)
        return pixels

    async def _messages(self, request: DecodingRequest) -> AsyncGenerator[Message, None]:
        reader = BodyReader(None, request.encoding, self.service.models.zstd_dictionaries())
        for read in (lambda: reader.feed(request.body), reader.close):
            for message in await asyncio.to_thread(read):
                yield message


def _job(timeout_s: float) -> Job:
    return Job(deadline=asyncio.get_running_loop().time() + timeout_s)
