"""Handlers of Hugging Face's remote-VAE protocol, which `diffusers.utils.remote_utils` implements for clients.

The client functions `remote_decode` and `remote_encode` send a raw tensor or a PNG file. The query string of the
request contains the tensor's shape, dtype and scaling.
"""

import asyncio
import json
from math import isfinite, prod
from typing import Any

import numpy as np
from aiohttp import web

from codec_http.body_receiver import receive_body
from codec_http.state import REQUEST_TIMEOUT_S, SERVICE
from codec_pixels.images import BEST_QUALITY, encode_image
from codec_pixels.videos import encode_video
from codec_wire.codings import IDENTITY
from codec_wire.errors import InvalidRequest, truncated_repr
from codec_wire.request import DEFAULT_FPS
from core import tensor_coding
from core.engine import Job
from core.input_image import read_input_image
from core.request_record import current_record
from core.tensor_coding import TensorDecodeRequest
from core.tensor_vae import DTYPE_BYTES, PixelLayout, TensorData, TensorScaling

TENSOR_MEDIA_TYPE = "tensor/binary"
DECODE_PARAMETERS = {
    "shape": "Shape of the latents. The parameter is repeated for each dimension: [B, C, h, w], [1, C, F, h, w] for a "
    "video, or packed [B, h * w / 4, 4C].",
    "dtype": "Type of the values in the body: float16, bfloat16 or float32.",
    "scaling_factor": "Number by which the latents are divided. Default: the latents are not divided.",
    "shift_factor": "Number that is added to the latents after the division. Default: 0.",
    "do_scaling": "If true and scaling_factor is missing, the latents are scaled as in the model's pipeline.",
    "output_type": "Type of the response: pil (an image file), pt (a tensor) or mp4 (a video file). Default: pil.",
    "image_format": "Format of the image file: jpg or png. Default: jpg.",
    "partial_postprocess": "If true and output_type is pt, the tensor is uint8 [N, H, W, 3].",
    "height": "Height in pixels; required for packed latents.",
    "width": "Width in pixels; required for packed latents.",
    "model": "Name or alias of a model. Default: the default model.",
}
ENCODE_PARAMETERS = {
    "shape": "Shape [B, 3, H, W] of the pixels, if the body is a tensor with values in [-1, 1]. The parameter is "
    "repeated for each dimension.",
    "dtype": "Type of the values in the body, if the body is a tensor: float16, bfloat16 or float32.",
    "scaling_factor": "Number by which the latents are multiplied. Default: the latents are not multiplied.",
    "shift_factor": "Number that is subtracted from the latents before the multiplication. Default: 0.",
    "model": "Name or alias of a model. Default: the default model.",
}


async def decode(request: web.Request) -> web.Response:
    """Handle POST /hf/decode, which decodes a tensor of latents to an image, a video or a tensor of pixels."""
    with request.app[SERVICE].admission.memory.reserve() as reservation:
        return await _decode(request, (await receive_body(request, reservation)).take())


async def _decode(request: web.Request, body: bytes) -> web.Response:
    output = _choice(request, "output_type", "pil", ("pil", "pt", "mp4"))
    image_format = _choice(request, "image_format", "jpg", ("jpg", "png"))
    latents = _unpacked(request, _tensor(request, body))
    is_video = len(latents.shape) == 5
    layout = PixelLayout.BYTES
    if output == "pt" and not _flag(request, "partial_postprocess"):
        layout = PixelLayout.VAE
    elif output == "pil" and (is_video or TENSOR_MEDIA_TYPE in request.headers.get("Accept", "")):
        layout = PixelLayout.UNIT  # the client has a `processor` argument and expects a tensor of frames
    elif output == "mp4" and not is_video:
        raise InvalidRequest("output_type", f"mp4 needs the latents of a video, got the shape {list(latents.shape)}")
    scaling = _scaling(request, as_pipeline=_flag(request, "do_scaling"))
    wanted = TensorDecodeRequest(latents, scaling, layout, request.query.get("model") or None)
    pixels = await tensor_coding.decode_tensor(request.app[SERVICE], wanted, _job(request))
    if output == "pt" or layout is PixelLayout.UNIT:
        return _tensor_response(pixels)
    frames = np.frombuffer(pixels.data, np.uint8).reshape(pixels.shape)
    if output == "mp4":
        video = await asyncio.to_thread(encode_video, frames, DEFAULT_FPS, {})
        return web.Response(body=video, content_type="video/mp4")
    name: Any = "jpeg" if image_format == "jpg" else "png"
    image = await asyncio.to_thread(encode_image, frames[0], name, {}, BEST_QUALITY)
    return web.Response(body=image, content_type=f"image/{name}")


async def encode(request: web.Request) -> web.Response:
    """Handle POST /hf/encode, which encodes an image file or a tensor of pixels to a tensor of latents."""
    with request.app[SERVICE].admission.memory.reserve() as reservation:
        return await _encode(request, (await receive_body(request, reservation)).take())


async def _encode(request: web.Request, body: bytes) -> web.Response:
    pixels = _tensor(request, body) if "shape" in request.query else read_input_image("image", body)
    scaling, model = _scaling(request, as_pipeline=False), request.query.get("model") or None
    return _tensor_response(
        await tensor_coding.encode_tensor(request.app[SERVICE], model, pixels, scaling, _job(request))
    )


def _job(request: web.Request) -> Job:
    current_record().coding = IDENTITY
    return Job(deadline=asyncio.get_running_loop().time() + request.app[REQUEST_TIMEOUT_S])


def _tensor_response(tensor: TensorData) -> web.Response:
    headers = {"shape": json.dumps(tensor.shape), "dtype": tensor.dtype, "Cache-Control": "no-store"}
    return web.Response(body=tensor.data, content_type=TENSOR_MEDIA_TYPE, headers=headers)


def _tensor(request: web.Request, data: bytes) -> TensorData:
    """Return the tensor in `data`, the body of `request`.

    Raises InvalidRequest unless the size of `data` matches the shape and dtype in the query.
    """
    dtype = _choice(request, "dtype", "", tuple(DTYPE_BYTES))
    shape = tuple(_integer("shape", value) for value in request.query.getall("shape", []))
    size = prod(shape) * DTYPE_BYTES[dtype]
    if not shape or size != len(data):
        raise InvalidRequest(
            "shape",
            f"must match the size of the body: {list(shape)} of {dtype} has {size} bytes, but the body has {len(data)}",
        )
    return TensorData(data, shape, dtype)


def _unpacked(request: web.Request, latents: TensorData) -> TensorData:
    """Convert packed latents of shape [B, h * w / 4, 4C] to latents of shape [B, C, h, w].

    Flux uses packed latents. If `latents` are not packed, return `latents` unchanged.
    """
    if len(latents.shape) != 3:
        return latents
    model = request.app[SERVICE].models.require_default().model
    sides = [
        2 * (_integer(name, request.query.get(name, "")) // (2 * model.spatial_factor)) for name in ("height", "width")
    ]
    (batch, tokens, values), (height, width) = latents.shape, sides
    if tokens * 4 != height * width or values % 4:
        raise InvalidRequest(
            "shape",
            f"must be [batch, {height * width // 4}, 4 * channels] for packed latents, got {list(latents.shape)}",
        )
    kind = (
        np.uint32 if DTYPE_BYTES[latents.dtype] == 4 else np.uint16
    )  # an integer type, because the bits are only moved
    array = np.frombuffer(latents.data, kind).reshape(batch, height // 2, width // 2, values // 4, 2, 2)
    data = array.transpose(0, 3, 1, 4, 2, 5).tobytes()
    return TensorData(data, (batch, values // 4, height, width), latents.dtype)


def _scaling(request: web.Request, *, as_pipeline: bool) -> TensorScaling:
    return TensorScaling(_number(request, "scaling_factor"), _number(request, "shift_factor"), as_pipeline)


def _number(request: web.Request, name: str) -> float | None:
    text = request.query.get(name)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not isfinite(number) or (name == "scaling_factor" and number == 0):
        raise InvalidRequest(name, f"must be a finite number other than 0, got {truncated_repr(text)}")
    return number


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise InvalidRequest(name, f"must be a positive integer, got {truncated_repr(text)}")
    return int(text)


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("true", "1")


def _choice(request: web.Request, name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = request.query.get(name, default)
    if value not in allowed:
        raise InvalidRequest(name, f"must be one of {', '.join(allowed)}, got {truncated_repr(value)}")
    return value
