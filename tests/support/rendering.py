"""Requests for images and videos instead of latents, and readers of their responses."""

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codec_pixels.device_thread import DeviceThread
from codec_pixels.vae import decode_latents
from codec_wire import WireFormat
from codec_wire.decoder import LatentDecoder
from core.diffusers_engine.loader import LoadedModel
from tests.support.http_requests import IMAGES
from tests.support.serving import MODEL, VIDEO_MODEL, read_stream

RENDERING = replace(MODEL, renders=True)
RENDERING_VIDEO = replace(VIDEO_MODEL, renders=True)
BODY: dict[str, Any] = {"prompt": "a snowy mountain", "size": "64x48", "steps": 3, "seed": 7}


async def post_json(http: Any, body: dict[str, Any], path: str = IMAGES) -> dict[str, Any]:
    """POST `body` to `path` and return the JSON response; fail unless the status is 200."""
    response = await http.post(path, json=body)
    assert response.status == 200, await response.text()
    content: dict[str, Any] = await response.json()
    return content


def image_pixels(file: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the image in an entry of the response's `data`, uint8 [height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(file["b64_json"]))))


async def raw_pixels(http: Any, body: dict[str, Any], model: LoadedModel, thread: DeviceThread) -> Any:
    """Request the same image as raw latents and decode them as a client does; return uint8 [height, width, 3].

    `thread` is the device thread of the server: the number of CPU threads changes the result.
    """
    response = await http.post(IMAGES, json=body | {"stream_format": "msgpack", "pipeline": "raw"})
    header, frames = read_stream(await response.read(), WireFormat.MSGPACK)
    latents = LatentDecoder(header).decode(frames[0])
    assert latents.dtype == np.float16
    arguments = (model.pipeline.vae, latents[np.newaxis].copy(), model.family.pipeline_class)
    return thread.submit(decode_latents, *arguments).result()[0]
