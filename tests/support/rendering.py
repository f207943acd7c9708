"""Plain requests for pixels, and what of them several tests look at."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codec_pixels.vae import decode_latents
from codec_wire import WireFormat
from codec_wire.decoder import LatentDecoder
from core.diffusers_engine.loader import LoadedModel
from tests.support.http_requests import IMAGES
from tests.support.serving import MODEL, VIDEO_MODEL, read_stream

RENDERING = replace(MODEL, renders=True)
RENDERING_VIDEO = replace(VIDEO_MODEL, renders=True)
BODY: dict[str, Any] = {"prompt": "a snowy mountain", "size": "64x48", "steps": 3, "seed": 7}


async def answer_of(http: Any, body: dict[str, Any], path: str = IMAGES) -> dict[str, Any]:
    """Return what `path` answers; fail unless that is 200."""
    response = await http.post(path, json=body)
    assert response.status == 200, await response.text()
    answer: dict[str, Any] = await response.json()
    return answer


def pixels_of(file: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the picture in an entry of `data`, [height, width, 3]."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(file["b64_json"]))))


async def raw_pixels(http: Any, body: dict[str, Any], model: LoadedModel, thread: ThreadPoolExecutor) -> Any:
    """Decode the raw stream of the same request as a client does, with as many CPU threads as the server has."""
    response = await http.post(IMAGES, json=body | {"stream_format": "msgpack", "pipeline": "raw"})
    header, frames = read_stream(await response.read(), WireFormat.MSGPACK)
    latents = LatentDecoder(header).decode(frames[0])
    assert latents.dtype == np.float16
    return thread.submit(decode_latents, model.pipeline.vae, latents[np.newaxis].copy()).result()[0]
