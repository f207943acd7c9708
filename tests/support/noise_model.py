"""A model for replicas whose videos have thousands of frames of noise. Does not import torch."""

import asyncio
from dataclasses import replace

from core.lifecycle import State
from core.model import RequestLimits
from core.role import Role
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings
from tests.support.noise_engine import NoiseEngine
from tests.support.serving import VIDEO_MODEL, bundle_of

LOADER = f"{__name__}:NoiseModel"
MODEL = replace(VIDEO_MODEL, name="long-video", limits=RequestLimits(max_frames=10_000))


class NoiseModel:
    """See codec_ray.model_loader.ModelLoader."""

    def __init__(self, settings: Settings, role: Role) -> None:
        """Accept what every loader accepts. The device is named after the number of threads."""
        self._device = f"test device, {settings.threads} threads"

    async def start_serving(self, service: LatentService) -> None:
        """Let `service` serve the model."""
        service.models.replace([ModelInstance(MODEL, bundle_of(MODEL), NoiseEngine(), self._device)])
        service.lifecycle.transition_to(State.SERVING)

    async def follow(self, service: LatentService) -> None:
        """Run until cancelled."""
        await asyncio.Event().wait()

    def free(self) -> bool:
        """See codec_ray.model_loader.ModelLoader."""
        return True
