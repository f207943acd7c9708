"""Construction of a map: choice and evaluation of dictionaries and scales, and reproducibility."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import zstandard

from codec_maps import BuiltMap, build_map
from codec_maps.bodies import encode_body
from codec_maps.corpus import Sample
from codec_maps.model_map import map_from_model
from codec_wire import WireFormat
from codec_wire.codings import CODINGS, Coding
from codec_wire.compression import ZstdCompressor
from codec_wire.decompression import GzipDecompressor
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.model import ModelInfo
from tests.support.serving import MODEL, VIDEO_MODEL

SIZES = ((256, 256), (128, 128), (256, 128))


def samples_of(
    model: ModelInfo, count: int, values: Callable[[np.random.Generator, tuple[int, ...]], Any], frames: int = 1
) -> list[Sample]:
    """Return `count` samples with latents from `values`, in rotating sizes. Every fourth is held out."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        size = SIZES[number % len(SIZES)]
        video = frames if model.modalities == (Modality.VIDEO,) else None
        request = GenerationRequest(prompt="x", seed=number, modality=model.modalities[0], size=size, frames=video)
        shape = model.latent_shape(*size)
        latents = [np.asarray(values(rng, shape), np.float16) for _ in range(frames)]
        samples.append(Sample(request, latents, held_out=number % 4 == 3))
    return samples


def gaussian(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.standard_normal(shape)


def built(model: ModelInfo, samples: list[Sample]) -> BuiltMap:
    return build_map(model, samples, partial(map_from_model, model, 0.18215, "AutoencoderKL"))


@pytest.fixture(scope="module")
def images() -> tuple[list[Sample], BuiltMap]:
    samples = samples_of(MODEL, 24, gaussian)
    return samples, built(MODEL, samples)


def test_every_wire_format_and_pipeline_has_a_trial(images: tuple[list[Sample], BuiltMap]) -> None:
    _, result = images
    expected = {
        (name, wire_format)
        for name in ("raw", "int8", "int4", "int8-adaptive", "int4-adaptive")
        for wire_format in WireFormat
    }
    assert {(trial.pipeline, trial.wire_format) for trial in result.trials} == expected


def test_map_contains_only_dictionaries_that_save_bytes(images: tuple[list[Sample], BuiltMap]) -> None:
    _, result = images
    accepted = {(trial.pipeline, str(trial.wire_format)) for trial in result.trials if trial.accepted}
    entries = {(str(entry.pipeline), str(entry.format)): entry for entry in result.bundle.latent_map.zstd_dictionaries}
    assert set(entries) == accepted
    for trial in result.trials:
        sizes = trial.sizes
        assert sizes.zstd_dictionary is not None
        if sizes.zstd_dictionary < 0.99 * min(sizes.identity, sizes.gzip, sizes.zstd):
            assert trial.accepted
        if sizes.zstd_dictionary > 1.01 * min(sizes.identity, sizes.gzip, sizes.zstd):
            assert not trial.accepted
        if trial.accepted:
            summary = entries[trial.pipeline, trial.wire_format].corpus_summary
            assert summary is not None
            assert (summary["n_samples"], summary["n_held_out"]) == (18, 6)
            assert summary["latent_shapes"] == [[4, 16, 16], [4, 16, 32], [4, 32, 32]]
            assert summary["mean_held_out_bytes"] == sizes.rounded()
            assert summary["mean_saving"] > 0
    # Bodies of small noise images: the dictionary saves the envelope and the entropy tables, and cannot save more.
    assert ("int4-adaptive", "msgpack") in accepted
    for trial in result.trials:
        assert trial.sizes.entropy_bound < (trial.sizes.zstd_dictionary or 0)


def test_measured_sizes_equal_those_of_bodies_that_a_client_can_decode(images: tuple[list[Sample], BuiltMap]) -> None:
    samples, result = images
    trial = next(trial for trial in result.trials if trial.accepted)
    found = result.bundle.dictionary(trial.wire_format, trial.pipeline)
    assert found is not None
    trained = zstandard.ZstdCompressionDict(found[1])
    sizes = []
    for sample in samples:
        if not sample.held_out:
            continue
        body = encode_body(sample, trial.pipeline, trial.wire_format, result.bundle, MODEL)
        compressor = ZstdCompressor(found[1])
        reader = zstandard.ZstdDecompressor(dict_data=trained).decompressobj()
        sent = b""
        for message in body.messages:
            data = compressor.compress(message)
            assert reader.decompress(data) == message  # flushed after each
            sent += data
        sent += compressor.finish()
        assert zstandard.get_frame_parameters(sent).dict_id == trained.dict_id()
        sizes.append(len(sent))
    assert np.mean(sizes) == trial.sizes.zstd_dictionary


def test_same_samples_give_the_same_map(images: tuple[list[Sample], BuiltMap]) -> None:
    samples, result = images
    assert built(MODEL, samples).bundle == result.bundle


def test_dictionary_that_saves_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class PerfectCompressor:
        def compress(self, _message: bytes) -> bytes:
            return b""

        def finish(self) -> bytes:
            return b"x"

    monkeypatch.setitem(CODINGS, "gzip", Coding("gzip", PerfectCompressor, GzipDecompressor))
    result = built(MODEL, samples_of(MODEL, 12, gaussian))
    assert len(result.trials) == 10
    assert not any(trial.accepted for trial in result.trials)
    assert not result.bundle.latent_map.zstd_dictionaries


def test_held_out_samples_do_not_affect_scales_and_dictionaries() -> None:
    samples = samples_of(MODEL, 12, gaussian)
    others = [
        replace(sample, latents=[latent * 2 for latent in sample.latents]) if sample.held_out else sample
        for sample in samples
    ]
    one, other = built(MODEL, samples), built(MODEL, others)
    assert one.bundle.static_scales("int4") == other.bundle.static_scales("int4")
    dictionaries = [result.bundle.dictionary("msgpack", "int4-adaptive") for result in (one, other)]
    assert dictionaries[0] == dictionaries[1]
    assert one.qualities != other.qualities


@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_few_samples_give_scales_but_no_dictionaries(count: int) -> None:
    result = built(MODEL, samples_of(MODEL, count, gaussian))
    assert (result.bundle.static_scales("int8") is not None) == (count > 0)
    assert not result.trials
    assert not result.bundle.latent_map.zstd_dictionaries


def test_constant_latents_give_valid_scales() -> None:
    result = built(MODEL, samples_of(MODEL, 12, lambda _rng, shape: np.zeros(shape)))
    assert result.bundle.static_scales("int8") == bytes(8)


def test_video_samples_have_trials_of_delta_pipelines() -> None:
    result = built(VIDEO_MODEL, samples_of(VIDEO_MODEL, 12, gaussian, frames=3))
    assert {"delta+int8", "delta+int4"} < {trial.pipeline for trial in result.trials}
