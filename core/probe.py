"""Makes a picture where one is needed and none came: to warm up and to calibrate models that begin with one."""

import struct
import zlib
from typing import Any

import numpy as np

from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.model import ModelInfo

PROBE_FRAMES = 9
"""Pictures of a video that is made to see what latents are like: enough for every temporal compression there is."""
_COARSE = 4
"""Cells along each side that get a colour of their own; between them colours run into each other."""


def sample_image(seed: int, side: int = 256) -> bytes:
    """Return a png of `side` x `side` pixels: soft patches of colour, the same for the same seed."""
    colours = np.random.default_rng(seed).random((_COARSE + 1, _COARSE + 1, 3))
    at = np.linspace(0, _COARSE, side, endpoint=False)
    low, share = at.astype(int), (at % 1)[:, np.newaxis]
    rows = colours[low] * (1 - share[..., np.newaxis]) + colours[low + 1] * share[..., np.newaxis]
    smooth = rows[:, low] * (1 - share) + rows[:, low + 1] * share
    return _png((smooth * 255).astype(np.uint8))


def _png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """Return [H, W, 3] as a png: no filter, one IDAT (PNG specification, 5)."""
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


def probe(model: ModelInfo, modality: Modality, prompt: str, seed: int, **fields: Any) -> GenerationRequest:
    """Return a request that `model` can serve: with pictures where it needs some, and short where it is a video.

    `fields` are further fields of the request.
    """
    form = model.forms_of(modality)[0]
    longest = model.limits.max_frames - (model.limits.max_frames - 1) % model.frame_multiple
    return GenerationRequest(
        prompt=prompt,
        seed=seed,
        modality=modality,
        image=sample_image(seed) if form.image else None,
        control_image=sample_image(seed + 1) if form.control_image else None,
        frames=min(_at_least(PROBE_FRAMES, model.frame_multiple), longest) if modality is Modality.VIDEO else None,
        **fields,
    )


def _at_least(frames: int, multiple: int) -> int:
    return 1 + -(-(frames - 1) // multiple) * multiple
