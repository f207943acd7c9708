"""The engines that run every job on a Ray Serve replica."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from ray.serve.handle import DeploymentHandle

from codec_ray.replica_call import call_replica
from codec_wire.events import Frame, Started
from codec_wire.latents import LatentFrame
from core.decode_plan import DecodePlan
from core.encode_plan import EncodePlan
from core.engine import Event, Job
from core.input_image import InputImage
from core.plan import StreamPlan
from core.tensor_vae import PixelLayout, TensorData, TensorScaling


class RayEngine:
    """Engine that generates latents on the replicas of a Ray Serve deployment. See core.engine.Engine.

    `handle` is a deployment handle with stream=True, like every handle in this module. Only replicas with the given
    `version` run the jobs.
    """

    def __init__(self, handle: DeploymentHandle[Any], version: str) -> None:
        self._handle = handle
        self._version = version

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """Yield each event of the replica as soon as the event is received.

        The frames in the events are already encoded.
        """
        async with aclosing(call_replica(self._handle.generate.remote, (plan,), job, self._version)) as events:
            async for event in events:
                yield event


class RayVae:
    """Engine that decodes and encodes latents on the replicas of a Ray Serve deployment.

    See core.vae_engine.VaeEngine.
    """

    def __init__(self, handle: DeploymentHandle[Any], version: str) -> None:
        self._handle = handle
        self._version = version

    async def decode(self, plan: DecodePlan, frames: Sequence[LatentFrame], job: Job) -> AsyncGenerator[bytes, None]:
        """Yield each part of the pixels as soon as the part is received."""
        async with aclosing(call_replica(self._handle.decode.remote, (plan, frames), job, self._version)) as parts:
            async for part in parts:
                yield part

    async def encode(self, plan: EncodePlan, job: Job) -> AsyncGenerator[Started | Frame, None]:
        """Yield each message of the replica, a header or a frame, as soon as the message is received."""
        async with aclosing(call_replica(self._handle.encode.remote, (plan,), job, self._version)) as events:
            async for event in events:
                yield event


class RayTensorVae:
    """Engine that decodes and encodes tensors with the model named `model` on Ray Serve replicas.

    See core.tensor_vae.TensorVae.
    """

    def __init__(self, handle: DeploymentHandle[Any], version: str, model: str) -> None:
        self._handle = handle
        self._version = version
        self._model = model

    async def decode_tensor(
        self, latents: TensorData, scaling: TensorScaling, layout: PixelLayout, job: Job
    ) -> TensorData:
        """Return the pixels of `latents`."""
        arguments = (self._model, latents, scaling, layout)
        async with aclosing(call_replica(self._handle.decode_tensor.remote, arguments, job, self._version)) as results:
            result: TensorData = await anext(results)
            return result

    async def encode_tensor(self, pixels: TensorData | InputImage, scaling: TensorScaling, job: Job) -> TensorData:
        """Return the latents of `pixels`."""
        arguments = (self._model, pixels, scaling)
        async with aclosing(call_replica(self._handle.encode_tensor.remote, arguments, job, self._version)) as results:
            result: TensorData = await anext(results)
            return result
