"""Hypothesis strategies for latents, headers, frames and whole streams."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from codec_wire.encoder import LatentEncoder
from codec_wire.latents import FinishReason, LatentDtype, LatentFrame, LatentStreamHeader
from codec_wire.pipelines import PIPELINES, Scales

Stream = tuple[LatentStreamHeader, list[NDArray[Any]], list[bool]]
"""A header, the latents of the frames, and for each frame whether it is a keyframe."""

FP16_MAX_BITS = 0x7BFF
"""Bit pattern of 65504, the largest finite fp16."""

_readable = st.characters(codec="utf-8", categories=["L", "N", "P"])
shapes = st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple)
dtypes = st.sampled_from(LatentDtype)
pipelines = st.sampled_from(list(PIPELINES))


@st.composite
def latents(draw: st.DrawFn, shape: tuple[int, ...], dtype: LatentDtype) -> NDArray[Any]:
    """Draw a latent of finite values; some channels are all zeros, subnormals or the largest fp16 values."""
    seed = draw(st.integers(0, 2**32 - 1))
    kinds = draw(st.lists(st.sampled_from(_KINDS), min_size=shape[0], max_size=shape[0]))
    rng = np.random.default_rng(seed)
    channels = [_channel(kind, rng, shape[1:]) for kind in kinds]
    latent = np.stack(channels)
    if dtype is LatentDtype.FP32:
        # Values that fp16 cannot represent, but at most 65503: the fp16 scale of the channel must stay finite.
        jitter = rng.uniform(0.99, 1.01, shape).astype(np.float32)
        values: NDArray[np.float32] = np.clip(latent.astype(np.float32) * jitter, -65503, 65503)
        return values
    return latent


_KINDS = ("normal", "bits", "zeros", "subnormal", "largest", "one value", "half steps")


def _channel(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float16]:
    if kind == "normal":
        return np.asarray(rng.standard_normal(shape) * rng.choice([1e-4, 1.0, 30.0]), np.float16)
    if kind == "zeros":
        return np.zeros(shape, np.float16)
    if kind == "one value":
        return np.full(shape, rng.standard_normal(), np.float16)
    if kind == "half steps":  # many quotients exactly halfway between two integers, to test rounding
        return (rng.integers(-254, 255, shape) / 2).astype(np.float16)
    highest = {"bits": FP16_MAX_BITS, "subnormal": 0x03FF, "largest": FP16_MAX_BITS}[kind]
    lowest = FP16_MAX_BITS - 3 if kind == "largest" else 0
    magnitude = rng.integers(lowest, highest, shape, endpoint=True, dtype=np.uint16)
    sign = rng.integers(0, 2, shape, dtype=np.uint16) << 15
    values: NDArray[np.float16] = (magnitude | sign).view(np.float16)
    return values


@st.composite
def static_scales(draw: st.DrawFn, channels: int) -> bytes:
    """Draw a finite fp16 scale per channel, from zero to 65504, as little-endian bytes."""
    bits = draw(
        st.lists(
            st.one_of(st.just(0), st.integers(0, FP16_MAX_BITS), st.integers(0x3800, 0x4800)),
            min_size=channels,
            max_size=channels,
        )
    )
    return np.array(bits, dtype="<u2").tobytes()


@st.composite
def headers(draw: st.DrawFn, pipeline: str | None = None, total_frames: int | None = None) -> LatentStreamHeader:
    """Draw a valid header; `pipeline` and `total_frames` are drawn if they are None."""
    name = pipeline or draw(pipelines)
    shape = draw(shapes)
    return LatentStreamHeader(
        latent_space_id=draw(
            st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=40)
        ),
        shape=shape,
        dtype=draw(dtypes),
        pipeline=name,
        scales=draw(static_scales(shape[0])) if PIPELINES[name].scales is Scales.STATIC else None,
        fps=draw(st.none() | st.integers(1, 2**32 - 1)),
        total_frames=total_frames or draw(st.none() | st.integers(1, 2**32 - 1)),
        vae_scale_factor=draw(st.none() | st.floats(2**-20, 2**20, width=32)),
    )


@st.composite
def frames(draw: st.DrawFn) -> LatentFrame:
    """Draw one frame with arbitrary data."""
    done = draw(st.booleans())
    return LatentFrame(
        data=draw(st.binary(max_size=400)),
        seq=draw(st.integers(0, 2**32 - 1)),
        keyframe=draw(st.booleans()),
        done=done,
        finish_reason=draw(st.none() | st.sampled_from(FinishReason)) if done else None,
    )


@st.composite
def streams(draw: st.DrawFn, max_frames: int = 6) -> tuple[LatentStreamHeader, list[NDArray[Any]], list[bool]]:
    """Draw a header, the latents of 1 to `max_frames` frames, and for each frame whether it is a keyframe."""
    count = draw(st.integers(1, max_frames))
    header = draw(headers(total_frames=count))
    values = [draw(latents(header.shape, header.dtype)) for _ in range(count)]
    keyframes = [not header.pipeline_spec.delta or seq == 0 or draw(st.booleans()) for seq in range(count)]
    return header, values, keyframes


def encoded(stream: Stream) -> tuple[LatentStreamHeader, list[LatentFrame]]:
    """Encode a drawn stream with LatentEncoder; return the header and the frames."""
    header, latents, keyframes = stream
    encoder = LatentEncoder(header)
    last = len(latents) - 1
    return header, [
        encoder.encode(latent, keyframe=keyframe, last=seq == last)
        for seq, (latent, keyframe) in enumerate(zip(latents, keyframes, strict=True))
    ]
