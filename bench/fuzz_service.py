"""The service that the fuzz tests send requests to, and a record of the errors that it logs."""

import logging
from collections.abc import AsyncGenerator
from dataclasses import replace

import numpy as np

from codec_pixels.device import Device
from codec_wire.encoder import LatentEncoder
from codec_wire.events import Frame, Started
from codec_wire.latents import Modality
from core.admission import Admission
from core.diffusers_engine.input_images import decode_inputs
from core.diffusers_engine.tensor_vae import DiffusersTensorVae
from core.diffusers_engine.vae_engine import DiffusersVae
from core.engine import Event, Job, Pixels
from core.lifecycle import Lifecycle, State
from core.model import GenerationMode, ModelInfo, RequestLimits, StepCheck
from core.plan import StreamPlan
from core.served import ModelInstance
from core.service import LatentService
from tests.support.factories import load_from_factory
from tests.support.serving import bundle_of

LIMITS = RequestLimits(max_side=128, max_steps=100, max_frames=8)


def fuzz_service() -> LatentService:
    """Return a ready service for a small Stable Diffusion pipeline with random weights.

    Requests are planned and input images are decoded, but nothing is sampled. The VAE decodes and encodes.
    """
    device = Device.from_settings("cpu", "auto", 1)
    model, thread = load_from_factory("tests.support.tiny_sd:build_pipeline", device), device.new_executor()
    info = _extended(model.info)
    vae, tensor_vae = DiffusersVae(model, thread), DiffusersTensorVae(model, thread)
    service = LatentService(Lifecycle(), Admission(32, 10**12))
    service.models.replace(
        [ModelInstance(info, bundle_of(info), DecodingEngine(), "none", vae=vae, tensor_vae=tensor_vae)]
    )
    service.lifecycle.transition_to(State.SERVING)
    return service


def _extended(tiny: ModelInfo) -> ModelInfo:
    """Return the description `tiny`, extended by videos and control images."""
    others = (GenerationMode(Modality.IMAGE, control_image=True), GenerationMode(Modality.VIDEO))

    def extended(known: StepCheck | None) -> StepCheck:
        return lambda mode, steps, strength: mode in others or known is None or known(mode, steps, strength)

    return replace(
        tiny,
        modalities=tuple(Modality),
        modes=(*tiny.modes, *others),
        default_size=(64, 64),
        limits=LIMITS,
        accepts_steps=extended(tiny.accepts_steps),
        scheduler_checks={name: extended(check) for name, check in tiny.scheduler_checks.items()},
    )


class DecodingEngine:
    """An engine that decodes the input images of a plan and yields zeros."""

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:  # noqa: ARG002
        """See core.engine.Engine."""
        decode_inputs(plan)
        yield Started(plan.header)
        if plan.rendered:
            yield Pixels(np.zeros((plan.num_frames, plan.height, plan.width, 3), np.uint8))
            return
        encoder = LatentEncoder(plan.header)
        latent = np.zeros(plan.header.shape)
        for seq in range(plan.latent_frames):
            yield Frame(encoder.encode(latent, keyframe=plan.is_keyframe(seq), last=seq == plan.latent_frames - 1))


class ErrorRecorder(logging.Handler):
    """Log handler that stores the last error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.error: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Store the message of `record` and the traceback, if it has one."""
        self.error = self.format(record)
