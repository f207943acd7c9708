"""A Ray Serve replica: a process that loads models and runs the jobs that the server sends."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from codec_ray.messages import JobRequest, Part, ReplicaInfo, ServedModel
from codec_ray.model_loader import import_loader
from codec_ray.proxied_methods import ProxiedMethods
from codec_ray.replica_job import Work, run_work
from codec_wire.errors import NotReady
from codec_wire.events import Frame, Started
from codec_wire.latents import LatentFrame, Modality
from core.admission import Admission
from core.decode_plan import DecodePlan
from core.encode_plan import EncodePlan
from core.engine import Event, Job
from core.input_image import InputImage
from core.lifecycle import RETRY_AFTER_S, Lifecycle
from core.lora_limits import require_loras
from core.pins import Provenance, require_pins
from core.plan import StreamPlan
from core.role import Role
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings
from core.step_limits import require_accepted_steps
from core.tensor_vae import PixelLayout, TensorData, TensorScaling, modality_of_shape

ItemT = TypeVar("ItemT")

_UNLIMITED = 2**62
"""Limit that is never reached.

The server limits the number and the cost of jobs. A replica limits only the memory of jobs.
"""


class ModelReplica(ProxiedMethods):
    """Class of the Ray Serve deployment.

    An instance owns diffusers pipelines and the device thread that runs the pipelines.

    The server calls the methods of this class, and Ray Serve's gRPC proxy calls the methods of the base class.

    The methods run on one event loop, which is separate from Ray's own event loop. The streams that the methods return
    end with a JobResult. If a call is cancelled, Ray closes the stream of the call, and the closed stream cancels the
    job.
    """

    async def __init__(self, settings: dict[str, Any], loader: str) -> None:  # type: ignore[misc]  # Serve awaits it
        """Load the models with the class that `loader` specifies as MODULE:CLASS. Raises StartupError."""
        configured = Settings(**settings)
        logging.basicConfig(level=configured.log_level.upper())
        if configured.require_pins:
            require_pins()
        self._provenance = Provenance.current(configured.image_digest)
        service = LatentService(Lifecycle(), Admission(_UNLIMITED, _UNLIMITED), self._provenance)
        super().__init__(service, configured.request_timeout_s)
        self._models = import_loader(loader)(configured, Role(configured.role))
        await self._models.start_serving(self._service)
        self._version = _version(settings, loader, self._service)
        self._following = asyncio.create_task(self._models.follow(self._service))

    async def __del__(self) -> None:
        """Release the models when Serve stops the replica. This method is also called if loading has failed."""
        models = getattr(self, "_models", None)
        if models is not None:
            await asyncio.to_thread(models.free)

    async def check_health(self) -> None:
        """Raise NotReady while the device hangs or fails.

        Ray Serve replaces the replica if several checks in succession fail.
        """
        self._service.lifecycle.require_serving()

    async def info(self) -> ReplicaInfo:
        """Return the description of the models."""
        return ReplicaInfo(self._version, tuple(map(_description, self._service.models)), self._provenance)

    async def version(self) -> str:
        """Return the version of this replica. See ReplicaInfo."""
        return self._version

    async def generate(self, plan: StreamPlan, request: JobRequest) -> AsyncGenerator[Part[Event], None]:
        """Generate latents as `plan` specifies, and return the events. See core.engine.Engine."""

        def work(job: Job) -> Work[Event]:
            self._service.lifecycle.require_serving()
            served = self._service.models.for_plan(plan)
            _require_steps(served, plan)
            require_loras(served.model, plan.loras)
            events = served.require_engine().generate(plan, job)
            return Work(events, plan.cost, plan.request_bytes, served.memory_of(plan), frames_follow=True)

        return self._run(request, work)

    async def decode(
        self, plan: DecodePlan, frames: Sequence[LatentFrame], request: JobRequest
    ) -> AsyncGenerator[Part[bytes], None]:
        """Decode `frames`, and return the pixels. See core.vae_engine.VaeEngine."""

        def work(job: Job) -> Work[bytes]:
            served = self._with_vae(plan)
            pixels = served.require_vae().decode(plan, frames, job)
            return Work(pixels, plan.cost, memory=served.memory_of_received(plan))

        return self._run(request, work)

    async def encode(self, plan: EncodePlan, request: JobRequest) -> AsyncGenerator[Part[Started | Frame], None]:
        """Encode the pixels of `plan`, and return the header and the frames. See core.vae_engine.VaeEngine."""

        def work(job: Job) -> Work[Started | Frame]:
            return Work(self._with_vae(plan).require_vae().encode(plan, job), plan.cost)

        return self._run(request, work)

    async def decode_tensor(
        self, model: str, latents: TensorData, scaling: TensorScaling, layout: PixelLayout, request: JobRequest
    ) -> AsyncGenerator[Part[TensorData], None]:
        """Decode `latents`, and return the pixels as one item. See core.tensor_vae.TensorVae."""

        def work(job: Job) -> Work[TensorData]:
            served = self._service.models.with_vae(None, modality_of_shape(latents.shape), model)
            return Work(_one_item(served.require_tensor_vae().decode_tensor(latents, scaling, layout, job)))

        return self._run(request, work)

    async def encode_tensor(
        self, model: str, pixels: TensorData | InputImage, scaling: TensorScaling, request: JobRequest
    ) -> AsyncGenerator[Part[TensorData], None]:
        """Encode `pixels`, and return the latents as one item. See core.tensor_vae.TensorVae."""

        def work(job: Job) -> Work[TensorData]:
            modality = Modality.IMAGE if isinstance(pixels, InputImage) else modality_of_shape(pixels.shape)
            served = self._service.models.with_vae(None, modality, model)
            return Work(_one_item(served.require_tensor_vae().encode_tensor(pixels, scaling, job)))

        return self._run(request, work)

    def _run(self, request: JobRequest, work: Callable[[Job], Work[ItemT]]) -> AsyncGenerator[Part[ItemT], None]:
        """Run `work` as a job, and return the messages of the job.

        If `request` is for another version of the replica, the only message has the error NotReady.
        """
        job = request.to_job()

        def checked() -> Work[ItemT]:
            if request.version != self._version:
                raise NotReady("the model is being replaced by another version", RETRY_AFTER_S)
            return work(job)

        return run_work(self._service, job, checked)

    def _with_vae(self, plan: DecodePlan | EncodePlan) -> ModelInstance:
        return self._service.models.with_vae(plan.header.latent_space_id, plan.modality, plan.model)


def _version(settings: dict[str, Any], loader: str, service: LatentService) -> str:
    """Return the version of a replica: a hash of the replica's settings, libraries and models. See ReplicaInfo."""
    maps = [(served.model.name, served.bundle.hash) for served in service.models]
    described = (sorted(settings.items()), loader, service.provenance, maps)
    return hashlib.sha256(repr(described).encode()).hexdigest()


def _description(served: ModelInstance) -> ServedModel:
    # The replica has the scheduler and the LoRA files of the model: see _require_steps.
    names = served.model.lora_names()
    model = replace(served.model, accepts_steps=None, scheduler_checks={}, request_loras=names, lora_directory=None)
    instance = replace(served, model=model, engine=None, vae=None, tensor_vae=None, memory={})
    return ServedModel(instance, served.engine is not None, served.vae is not None, served.tensor_vae is not None)


def _require_steps(served: ModelInstance, plan: StreamPlan) -> None:
    """Check the number of steps of `plan` with the scheduler of the model.

    Only the replica has the scheduler. Raises InvalidRequest.
    """
    mode = next(mode for mode in served.model.modes_of(plan.modality) if mode.inputs == plan.inputs)
    require_accepted_steps(served.model, mode, plan.steps, plan.strength, plan.scheduler)


async def _one_item(result: Awaitable[ItemT]) -> AsyncGenerator[ItemT, None]:
    yield await result
