"""Encoding of rendered images and videos as base64 files."""

import asyncio
import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec_http.request_models import RenderedBody, RenderedImagesBody
from codec_pixels.images import BEST_QUALITY, encode_image
from codec_pixels.parameters import Parameters, file_parameters
from codec_pixels.videos import encode_video
from core.engine import Job
from core.plan import StreamPlan
from core.response_parameters import environment_of
from core.service import LatentService


@dataclass(frozen=True, slots=True)
class FileEncoder:
    """Encoder of image and video files in the format that the request `body` selects.

    Files are encoded in other threads, so that the event loop is not blocked. The encoding of a video stops if `job` is
    cancelled.
    """

    service: LatentService
    body: RenderedBody
    job: Job

    async def encode(self, pixels: NDArray[np.uint8], plan: StreamPlan) -> str:
        """Return a base64 file with `pixels` and the generation parameters of `plan`.

        `pixels` is a uint8 array of RGB values with the shape [frames, height, width, 3].
        """
        served = self.service.models.for_plan(plan)
        environment = environment_of(served, self.service.provenance)
        parameters = file_parameters(plan.header, served.bundle.hash, pixels.shape, plan.file_parameters(), environment)
        return await asyncio.to_thread(self._encode, pixels, plan, parameters)

    async def encode_preview(self, pixels: NDArray[np.uint8], plan: StreamPlan) -> str:
        """Return `pixels` as a base64 file without generation parameters.

        `pixels` are a preview of the result of `plan`. The generation parameters of `plan` describe the finished image,
        not the preview.
        """
        return await asyncio.to_thread(self._encode, pixels, plan, {})

    def _encode(self, pixels: NDArray[np.uint8], plan: StreamPlan, parameters: Parameters) -> str:
        body = self.body
        if isinstance(body, RenderedImagesBody):
            quality = BEST_QUALITY if body.output_compression is None else body.output_compression
            data = encode_image(pixels[0], body.output_format, parameters, quality)
        else:
            data = encode_video(
                pixels, plan.header.fps or 1, parameters, lambda writer: self.job.on_cancel(writer.kill)
            )
        return base64.b64encode(data).decode()
