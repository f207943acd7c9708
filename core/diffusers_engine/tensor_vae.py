"""Decoding and encoding of plain tensors with the VAE of a local pipeline. See core.tensor_vae."""

import asyncio
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from codec_pixels.device_thread import DeviceThread
from codec_pixels.latent_scaling import scaling_of
from codec_pixels.vae import VAE_DECODERS, as_supported_class, upcast_if_required
from codec_pixels.vae_encoding import VAE_ENCODERS
from core.diffusers_engine.checkpoints import checkpoints, stop_if_cancelled
from core.diffusers_engine.device_work import run_on_device
from core.diffusers_engine.input_images import decode_input_image
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import memory_guard
from core.diffusers_engine.variants import PipelineVariant
from core.engine import Job
from core.input_image import InputImage
from core.tensor_vae import PixelLayout, TensorData, TensorScaling, modality_of_shape

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class DiffusersTensorVae:
    """A VAE interface that decodes and encodes tensors on the device thread of the model's engine."""

    def __init__(self, model: LoadedModel, thread: DeviceThread) -> None:
        self._model = model
        self._thread = thread

    async def decode_tensor(
        self, latents: TensorData, scaling: TensorScaling, layout: PixelLayout, job: Job
    ) -> TensorData:
        """Decode `latents` to pixels. See core.tensor_vae.TensorVae."""
        variant = self._variant_for(latents.shape)

        def decode() -> Tensor:
            vae = as_supported_class(variant.pipeline.vae)
            values = _to_tensor(latents)
            own = scaling_of(variant.family.pipeline_class, type(vae).__name__, vae)
            with upcast_if_required(vae, supported=own.upcast):
                values = _frames_first(values.to(_device_of(vae), vae.dtype))
                if scaling.factor is not None:
                    values = values / scaling.factor
                    values = values if scaling.shift is None else values + scaling.shift
                elif scaling.as_pipeline:
                    values = own.unscale(vae, values)
                return _with_layout(VAE_DECODERS[type(vae).__name__](vae, values), layout, latents.shape)

        return await self._run(variant, decode, job)

    async def encode_tensor(self, pixels: TensorData | InputImage, scaling: TensorScaling, job: Job) -> TensorData:
        """Encode `pixels` to latents. See core.tensor_vae.TensorVae."""
        if isinstance(pixels, InputImage):
            shape: tuple[int, ...] = (1, 3, pixels.height, pixels.width)
            values = await asyncio.to_thread(self._preprocess, pixels)
        else:
            shape, values = pixels.shape, _to_tensor(pixels)
        variant = self._variant_for(shape)

        def encode() -> Tensor:
            vae = as_supported_class(variant.pipeline.vae)
            own = scaling_of(variant.family.pipeline_class, type(vae).__name__, vae)
            with upcast_if_required(vae, supported=own.upcast):
                frames = _frames_first(values.to(_device_of(vae), vae.dtype))
                latents = VAE_ENCODERS[type(vae).__name__](vae, frames, None)
            latents = latents if scaling.shift is None else latents - scaling.shift
            latents = latents if scaling.factor is None else latents * scaling.factor
            return latents if len(shape) == 4 else latents.transpose(0, 1).unsqueeze(0)

        return await self._run(variant, encode, job)

    def _variant_for(self, shape: tuple[int, ...]) -> PipelineVariant:
        modality = modality_of_shape(shape)
        return next((one for one in self._model.variants if one.mode.modality is modality), self._model.variants[0])

    def _preprocess(self, file: InputImage) -> Tensor:
        """Convert an image with the image processor of diffusers to a tensor [1, 3, H, W] with values in [-1, 1]."""
        from diffusers.image_processor import VaeImageProcessor  # noqa: PLC0415 - takes seconds

        image = decode_input_image("image", file, (file.width, file.height))
        values: Tensor = VaeImageProcessor(vae_scale_factor=self._model.info.spatial_factor).preprocess(image)
        return values

    async def _run(self, variant: PipelineVariant, work: Callable[[], Tensor], job: Job) -> TensorData:
        """Run `work` on the device thread and return the result of `work`."""

        def run() -> TensorData:
            stop_if_cancelled(job)
            job.record.record_sampling()
            with torch.inference_mode(), memory_guard(None), checkpoints(variant.pipeline.vae, job):
                result = work().contiguous().cpu()
                # Does nothing unless the pipeline offloads its models: then the VAE must leave the device again.
                variant.pipeline.maybe_free_model_hooks()
            data = result.view(torch.uint8).numpy().tobytes()
            return TensorData(data, tuple(result.shape), str(result.dtype).removeprefix("torch."))

        try:
            return await run_on_device(self._thread, job, run)
        finally:
            job.abandon()


def _to_tensor(tensor: TensorData) -> Tensor:
    return torch.frombuffer(bytearray(tensor.data), dtype=_DTYPES[tensor.dtype]).reshape(tensor.shape)


def _frames_first(values: Tensor) -> Tensor:
    """Convert the tensor [1, C, F, h, w] of a video to [F, C, h, w]. Return a tensor of images unchanged."""
    return values[0].transpose(0, 1) if values.ndim == 5 else values


def _with_layout(pixels: Tensor, layout: PixelLayout, shape: tuple[int, ...]) -> Tensor:
    """Convert `pixels` [N, 3, H, W] to `layout`. The pixels were decoded from latents that have the shape `shape`."""
    if layout is PixelLayout.VAE:
        return pixels if len(shape) == 4 else pixels.transpose(0, 1).unsqueeze(0)
    unit = (pixels / 2 + 0.5).clamp(0, 1)
    if layout is PixelLayout.UNIT:
        return unit
    return (unit.permute(0, 2, 3, 1).float() * 255).round().to(torch.uint8)


def _device_of(vae: Any) -> torch.device:
    from diffusers.utils.torch_utils import get_module_execution_device  # noqa: PLC0415 - takes seconds

    device: torch.device = get_module_execution_device(vae)
    return device
