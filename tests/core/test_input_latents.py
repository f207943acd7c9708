"""Latents in a request: every stream that is accepted, and those that are refused."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from codec_wire import WireFormat
from codec_wire.codings import CODINGS
from codec_wire.errors import InvalidRequest
from codec_wire.latents import FinishReason, LatentDtype, LatentFrame, LatentStreamHeader, Modality
from codec_wire.request import GenerationRequest
from core.input_latents import MAX_LATENTS_BYTES, decode_input_latents, read_input_latents
from core.model import GenerationMode
from core.plan import StreamPlan, plan
from core.probe import sample_image
from tests.support.dictionaries import DICTIONARY, DIGEST
from tests.support.latent_streams import body_of, random_stream
from tests.support.serving import MODEL, bundle_of

IMAGE_TO_IMAGE = GenerationMode(Modality.IMAGE, image=True, strength=True, latents=True)
MODEL_WITH_IMAGES = replace(MODEL, modes=(GenerationMode(Modality.IMAGE), IMAGE_TO_IMAGE))
PIPELINES = ("raw", "int8", "int4", "int8-adaptive", "int4-adaptive")
BODY = body_of(random_stream())


def compressed(body: bytes, coding: str) -> bytes:
    compressor = CODINGS[coding].compressor(DICTIONARY)
    return compressor.compress(body) + compressor.finish()


def plan_for(latents: bytes, **fields: object) -> StreamPlan:
    request = GenerationRequest(prompt="a sea", latents=latents, **fields)  # type: ignore[arg-type]
    return plan(request, bundle_of(MODEL_WITH_IMAGES), MODEL_WITH_IMAGES)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("wire_format", WireFormat)
def test_every_coding_and_pipeline_is_read(coding: str, pipeline: str, wire_format: WireFormat) -> None:
    header, frames = random_stream(pipeline)
    body = body_of((header, frames), wire_format)
    expected = decode_input_latents(read_input_latents(body, {}))
    latents = read_input_latents(compressed(body, coding), {DIGEST: DICTIONARY})
    assert (latents.coding, latents.header) == (coding, header)
    assert np.array_equal(decode_input_latents(latents), expected)


def test_size_is_that_of_the_latents() -> None:
    planned = plan_for(BODY)
    assert (planned.width, planned.height, planned.header.shape) == (64, 48, (4, 6, 8))
    assert (planned.strength, planned.request_bytes) == (0.8, len(BODY))
    assert plan_for(BODY, size=(64, 48), strength=0.5).strength == 0.5


@pytest.mark.parametrize(
    ("latents", "fields", "reason"),
    [
        (b"", {}, "ends before the end of its header"),
        (b"\x89PNG\r\n\x1a\n", {}, "at byte 0: the body must be a latent stream, but it is a PNG image"),
        (b"\xff" * 100, {}, "not a latent stream"),
        (BODY[:20], {}, "ends before the end of its header"),
        (b"\0" * (MAX_LATENTS_BYTES + 1), {}, f"at most {MAX_LATENTS_BYTES} bytes"),
        (
            body_of(random_stream(latent_space="a/b")),
            {},
            "sd-vae-ft-mse of tiny-sd, got 'a/b'",
        ),
        (body_of(random_stream(num_frames=2)), {}, "stream of one image"),
        (body_of(random_stream(shape=(16, 6, 8))), {}, r"shape must be \[4, height, width\], got \[16, 6, 8\]"),
        (BODY, {"size": (64, 64)}, r"shape must be \[4, 8, 8\] for 64x64, got \[4, 6, 8\]"),
        (BODY, {"image": sample_image(0)}, "must not be combined with image"),
    ],
)
def test_latents_that_do_not_fit_are_refused(latents: bytes, fields: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^latents: .*{reason}"):
        plan_for(latents, **{"image": None} | fields)


def test_model_that_does_not_take_latents_refuses_them() -> None:
    model = replace(MODEL, modes=(replace(IMAGE_TO_IMAGE, latents=False),))
    for one, reason in ((MODEL, "is not supported by tiny-sd, which generates"), (model, "send an input image")):
        with pytest.raises(InvalidRequest, match=f"^latents: .*{reason}"):
            plan(GenerationRequest(prompt="x", latents=BODY), bundle_of(one), one)


def header_of_image(**fields: object) -> LatentStreamHeader:
    return LatentStreamHeader("s", (4, 6, 8), LatentDtype.FP32, **fields)  # type: ignore[arg-type]


def raw(value: float, **fields: object) -> bytes:
    data = np.full((4, 6, 8), value, "<f4").tobytes()
    frame = {"seq": 0, "keyframe": True, "done": True, "finish_reason": FinishReason.OK} | fields
    return body_of((header_of_image(pipeline="raw"), [LatentFrame(data, **frame)]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (raw(float("nan")), r"at byte \d+: frame 0 contains NaN"),
        (raw(1e4), "values must be finite and from -1000 to 1000"),
        (raw(1.0)[:-4], "stream ends before its first frame"),
        (raw(1.0) + b"x", "follow the last frame"),
        (raw(1.0, done=False, finish_reason=None), "one image, got a second frame"),
        (raw(1.0, seq=1), "expected frame 0, got frame 1"),
        (raw(1.0, finish_reason=FinishReason.ERROR), "the sender reported an error"),
    ],
)
def test_broken_frames_are_refused(body: bytes, reason: str) -> None:
    latents = read_input_latents(body, {})
    with pytest.raises(InvalidRequest, match=f"^latents: .*{reason}"):
        decode_input_latents(latents)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_body_that_expands_to_a_gigabyte_takes_little_memory(coding: str) -> None:
    compressor = CODINGS[coding].compressor(None)
    zeros = b"".join(compressor.compress(bytes(2**20)) for _ in range(64)) + compressor.finish()
    compressor = CODINGS[coding].compressor(None)
    after_header = compressor.compress(BODY[:120]) + b"".join(compressor.compress(bytes(2**20)) for _ in range(64))
    tracemalloc.start()
    for bomb in (zeros, after_header + compressor.finish()):
        with pytest.raises(InvalidRequest, match="^latents: "):
            decode_input_latents(read_input_latents(bomb, {}))
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()
