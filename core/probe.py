"""Short test requests for warm-up and calibration.

The requests contain generated input images if a model requires images.
"""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.model import GenerationMode, ModelInfo

PROBE_FRAMES = 9
"""Minimum number of frames of a test video.

A video with this number of frames has several latent frames in every model. Among all supported models, the largest
number of video frames per latent frame is 8.
"""
_GRID = 4
"""Number of cells along each side of a sample image. The corners of the cells have random colours."""


def probe_request(
    model: ModelInfo, modality: Modality, prompt: str, seed: int, mode: GenerationMode | None = None, **fields: Any
) -> GenerationRequest:
    """Return a request for a short video or an image that `model` can serve, with all required input images.

    `mode` is the input combination, or None for the first combination of `modality`. `fields` are additional fields of
    the request.
    """
    mode = mode or model.modes_of(modality)[0]
    return GenerationRequest(
        prompt=prompt,
        seed=seed,
        modality=modality,
        image=sample_image(seed) if mode.image else None,
        control_image=sample_image(seed + 1) if mode.control_image else None,
        mask=sample_mask() if mode.mask else None,
        frames=_num_frames(model) if modality is Modality.VIDEO else None,
        **fields,
    )


def _num_frames(model: ModelInfo) -> int:
    """Return the smallest supported number of frames that is not below PROBE_FRAMES.

    The result is at most the maximum number of frames of the model.
    """
    multiple = model.frame_multiple
    return model.nearest_num_frames(1 + -(-(PROBE_FRAMES - 1) // multiple) * multiple)


def sample_image(seed: int, side: int = 256) -> bytes:
    """Return a PNG file of `side` x `side` pixels with a smooth random colour gradient.

    The colour gradient depends only on `seed`.
    """
    colours = np.random.default_rng(seed).random((_GRID + 1, _GRID + 1, 3))
    positions = np.linspace(0, _GRID, side, endpoint=False)
    low, share = positions.astype(int), (positions % 1)[:, np.newaxis]
    rows = colours[low] * (1 - share[..., np.newaxis]) + colours[low + 1] * share[..., np.newaxis]
    smooth = rows[:, low] * (1 - share) + rows[:, low + 1] * share
    return _encode_png((smooth * 255).astype(np.uint8))


def sample_mask(side: int = 256) -> bytes:
    """Return a PNG file of `side` x `side` pixels whose left half is white and whose right half is black."""
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[:, : side // 2] = 255
    return _encode_png(pixels)


def _encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels [H, W, 3] as a PNG file without filters and with one IDAT chunk (PNG specification, section 5).

    This module does not use an image library, because a gateway has no image library.
    """
    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
