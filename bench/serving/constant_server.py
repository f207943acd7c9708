"""Our server with its sampler replaced by constant tensors: the embedded model and a model for videos.

    python -m bench.serving.constant_server

Prints a line with the ports as soon as it is ready, and the number of active jobs at SIGUSR1. Stops at SIGTERM.
The server is not warmed up, since the sampler does not compute anything.
"""

import asyncio
import signal
import sys
import threading
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from bench.serving.workload import HELD_PROMPT, SPATIAL_FACTOR, VIDEO_LATENT_SPACE, Workload
from codec_grpc.server import start_grpc_server
from codec_http.server import start_http_server
from codec_maps.model_map import map_from_model
from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_server.configured_map import find_model_map
from codec_server.runner import drain, ignore_loaded_objects, run_server, stop_on_signals
from codec_wire.latents import Modality
from core.admission import Admission
from core.diffusers_engine import checkpoints, sampler
from core.diffusers_engine.batch import StepListener
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loader import LoadedModel, load
from core.diffusers_engine.sources import model_sources
from core.diffusers_engine.variants import PipelineVariant
from core.engine import Job
from core.lifecycle import Lifecycle, State
from core.model import ModelInfo, RequestLimits
from core.plan import StreamPlan
from core.served import ModelInstance
from core.service import LatentService
from core.settings import Settings

FLAGS = {
    "device": "cpu",
    "threads": 1,
    "port": 0,
    "grpc_port": 0,
    "max_jobs": 4096,
    "max_cost": 10**15,
    "drain_timeout_s": 5,
    "log_level": "warning",
}
VIDEO_MODEL = ModelInfo(
    name="constant-video",
    latent_space=VIDEO_LATENT_SPACE,
    latent_channels=16,
    spatial_factor=SPATIAL_FACTOR,
    size_multiple=SPATIAL_FACTOR,
    default_size=(832, 480),
    modalities=(Modality.VIDEO,),
    limits=RequestLimits(max_frames=10_000),
)


class ConstantSampler:
    """Replaces core.diffusers_engine.sampler.sample: reports every step at once and returns constant latents.

    A plan with the prompt HELD_PROMPT waits until its job is cancelled.
    """

    def __init__(self) -> None:
        self._latents: dict[tuple[tuple[int, ...], int], Tensor] = {}

    def __call__(
        self, _model: Any, plan: StreamPlan, job: Job, on_step: StepListener, *_inputs: Any, **_previews: Any
    ) -> Tensor:
        """Return the latents of the workload with the shape and number of frames of `plan`."""
        for step in range(plan.steps):
            on_step(step + 1, plan.steps)
        if plan.prompt == HELD_PROMPT:
            cancelled = threading.Event()
            job.on_cancel(cancelled.set)
            cancelled.wait()
            checkpoints.stop_if_cancelled(job)
        key = (plan.header.shape, plan.latent_frames)
        if key not in self._latents:
            channels, height, width = plan.header.shape
            workload = Workload("", (channels, height, width), "raw", latent_frames=plan.latent_frames)
            self._latents[key] = torch.from_numpy(workload.latents())
        return self._latents[key]


def replace_sampler() -> None:
    """Replace the sampler in every module that imported it."""
    original, constant = sampler.sample, ConstantSampler()
    for name, module in tuple(sys.modules.items()):
        if name.startswith("core.diffusers_engine") and vars(module).get("sample") is original:
            module.sample = constant  # type: ignore[attr-defined]


def image_instance(settings: Settings, device: Device, thread: DeviceThread) -> ModelInstance:
    """Load the embedded model."""
    (source,) = model_sources(settings)
    loaded = thread.submit(load, source, device).result()
    bundle = find_model_map(settings, None, loaded.info, loaded.vae_scale_factor)
    if bundle is None:
        raise RuntimeError(f"{loaded.info.name} has no latent-space map")
    return ModelInstance(loaded.info, bundle, DiffusersEngine(loaded, thread), str(device))


def video_instance(device: Device, thread: DeviceThread) -> ModelInstance:
    """Return a model for videos with an empty pipeline, because the replaced sampler does not call the pipeline."""
    variant = PipelineVariant(SimpleNamespace(), FAMILIES["WanPipeline"])
    loaded = LoadedModel((variant,), VIDEO_MODEL, 1.0, "AutoencoderKLWan", device)
    bundle = map_from_model(VIDEO_MODEL, 1.0, "AutoencoderKLWan")
    return ModelInstance(VIDEO_MODEL, bundle, DiffusersEngine(loaded, thread), str(device))


async def serve(settings: Settings) -> None:
    """Serve both models until SIGTERM."""
    stop = stop_on_signals()
    device = Device.from_settings(settings.device, settings.dtype, settings.threads)
    thread = device.new_executor()
    service = LatentService(Lifecycle(ignore_loaded_objects), Admission(settings.max_jobs, settings.max_cost))
    service.models.replace([image_instance(settings, device, thread), video_instance(device, thread)])
    replace_sampler()
    http = await start_http_server(service, settings.host, settings.port, settings.request_timeout_s)
    grpc = await start_grpc_server(service, settings.host, settings.grpc_port, settings.request_timeout_s)
    service.lifecycle.transition_to(State.SERVING)
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGUSR1, lambda: print(f"jobs={service.admission.jobs}", flush=True)
    )
    print(f"ready http={http.port} grpc={grpc.port}", flush=True)
    try:
        await stop.wait()
    finally:
        await drain(service, settings.drain_timeout_s, [http, grpc])
        thread.shutdown()


if __name__ == "__main__":
    run_server(dict(FLAGS), serve)
