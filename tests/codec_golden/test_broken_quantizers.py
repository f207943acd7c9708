"""A quantizer that is a little wrong is caught for each pipeline it touches: by bits, by pixels where they change."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from codec_golden.errors import NotMeasured
from codec_golden.gate import Gate, Row
from codec_golden.reference import ReferenceModel
from codec_golden.storage import GoldenFixture, Pixels
from codec_golden.thresholds import compute_thresholds
from codec_maps.annotations import with_thresholds
from codec_wire.encoder import LatentEncoder
from codec_wire.maps.document import QualityThresholds
from codec_wire.pipelines import PIPELINES, inverse, numpy_math, torch_math
from tests.support.reference_model import SUITE, shipped_bundle

QUANTIZED = frozenset(PIPELINES) - {"raw"}
DELTA = frozenset({"delta+int8", "delta+int4"})
STATIC = frozenset({"int8", "int4"})
FOUR_BITS = frozenset({"int4", "int4-adaptive", "delta+int4"})
OWN_SCALES = QUANTIZED - STATIC
Patch = Callable[[pytest.MonkeyPatch], None]
RowsOf = Callable[[Gate], list[Row]]


def round_half_away(patch: pytest.MonkeyPatch) -> None:
    """x.5 away from zero instead of to the even neighbour."""

    def by_numpy(values: Any, divisors: Any, max_code: int, *, saturate: bool) -> Any:
        column = divisors.column / (numpy_math._WIDENING if divisors.widened else np.float32(1))
        with np.errstate(over="ignore"):
            ratio = values.astype(np.float32) / column * np.float32(max_code)
        rounded = np.copysign(np.floor(np.abs(ratio) + np.float32(0.5)), ratio)
        return np.clip(rounded, -max_code, max_code).astype(np.int8)

    def by_torch(values: Any, divisors: Any, max_code: int, *, saturate: bool) -> Any:
        ratio = values.float() / divisors * float(max_code)
        rounded = torch.copysign(torch.floor(ratio.abs() + 0.5), ratio)
        return rounded.clamp(-max_code, max_code).to(torch.int8)

    patch.setattr(numpy_math, "quantize", by_numpy)
    patch.setattr(torch_math, "quantize", by_torch)


def no_clip(patch: pytest.MonkeyPatch) -> None:
    """Values over their scale run over instead of being cut off."""
    for math in (numpy_math, torch_math):
        quantize: Any = math.quantize
        wrong = lambda *a, quantize=quantize, saturate: quantize(*a, saturate=False)  # noqa: E731
        patch.setattr(math, "quantize", wrong)
    patch.setattr(numpy_math, "residual", lambda codes, key, _max_code: codes - key)
    patch.setattr(torch_math, "residual", lambda codes, key, _max_code: codes - key)


def scales_swapped(patch: pytest.MonkeyPatch) -> None:
    """The scales stand in the frame in the order of the last channel to the first."""
    for math in (numpy_math, torch_math):
        to_bytes: Any = math.to_bytes

        def swapped(values: Any, to_bytes: Any = to_bytes) -> Any:
            data = to_bytes(values)
            return data if values.ndim != 1 else np.frombuffer(data, "<f2")[::-1].tobytes()

        patch.setattr(math, "to_bytes", swapped)


def high_nibble_first(patch: pytest.MonkeyPatch) -> None:
    """Two codes of 4 bits the other way round."""
    for math in (numpy_math, torch_math):
        pack: Any = math.pack

        def turned(codes: Any, bits: int, pack: Any = pack) -> Any:
            data = np.frombuffer(pack(codes, bits), np.uint8)
            return data.tobytes() if bits == 8 else (data << 4 | data >> 4).astype(np.uint8).tobytes()

        patch.setattr(math, "pack", turned)


def wrong_keyframe(patch: pytest.MonkeyPatch) -> None:
    """A residual is taken against the frame before instead of the keyframe."""
    bytes_of: Any = LatentEncoder._bytes_of

    def remembering(self: Any, latent: Any, *, keyframe: bool) -> Any:
        data = bytes_of(self, latent, keyframe=keyframe)
        if self._row.delta and not keyframe:
            math: Any = numpy_math if isinstance(latent, np.ndarray) else torch_math
            values = math.cast(latent, self._dtype)
            self._key_codes = math.quantize(values, self._divisors, self._row.max_code, saturate=True)
        return data

    patch.setattr(LatentEncoder, "_bytes_of", remembering)


def multiplied_first(patch: pytest.MonkeyPatch) -> None:
    """x * (Q / s) instead of (x / s) * Q: a shortcut whose codes differ in a few places, too few to see."""

    def by_numpy(values: Any, divisors: Any, max_code: int, *, saturate: bool) -> Any:
        column = divisors.column / (numpy_math._WIDENING if divisors.widened else np.float32(1))
        with np.errstate(over="ignore"):
            ratio = values.astype(np.float32) * (np.float32(max_code) / column)
        return np.clip(np.rint(ratio), -max_code, max_code).astype(np.int8)

    def by_torch(values: Any, divisors: Any, max_code: int, *, saturate: bool) -> Any:
        ratio = values.float() * (float(max_code) / divisors)
        return ratio.round().clamp(-max_code, max_code).to(torch.int8)

    patch.setattr(numpy_math, "quantize", by_numpy)
    patch.setattr(torch_math, "quantize", by_torch)


@dataclass(frozen=True)
class Broken:
    """`touched` pipelines make other bytes; of those, `seen` ones also make pictures that miss their bounds.

    More may miss them: that depends on the model, its scales and its pictures.
    """

    patch: Patch
    touched: frozenset[str]
    seen: frozenset[str]


CASES = [
    Broken(round_half_away, QUANTIZED, frozenset()),
    Broken(no_clip, STATIC | DELTA, frozenset({"int4", "delta+int4", "delta+int8"})),
    Broken(scales_swapped, OWN_SCALES, OWN_SCALES),
    Broken(high_nibble_first, FOUR_BITS, FOUR_BITS),
    Broken(wrong_keyframe, DELTA, DELTA),
    Broken(multiplied_first, QUANTIZED, frozenset()),
]


@pytest.fixture(scope="module", autouse=True)
def without_vmaf() -> Iterator[None]:
    """It bounds nothing, and takes a second a row."""

    def not_here(*_arguments: object) -> float:
        raise NotMeasured("left out of this test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("codec_golden.gate.vmaf", not_here)
        yield


@pytest.fixture(scope="module")
def rows_of(goldens: list[GoldenFixture], reference: ReferenceModel) -> RowsOf:
    """What a gate finds. The VAE is asked once for the same latents: most pipelines are sound most of the time."""
    known: dict[bytes, Pixels] = {}

    def decode(latents: Any) -> Pixels:
        key = latents.tobytes()
        if key not in known:
            known[key] = reference.pixels(latents)
        return known[key]

    return lambda gate: list(gate.evaluate_encoded(goldens, decode, reference.torch_device))


@pytest.fixture(scope="module")
def bounded(rows_of: RowsOf) -> Gate:
    """The gate with the bounds of a sound quantizer."""
    bundle = shipped_bundle()
    sound = rows_of(Gate(bundle, no_lpips))
    bounds = {name: QualityThresholds.model_validate(one) for name, one in compute_thresholds(sound, SUITE).items()}
    return Gate(with_thresholds(bundle, bounds), no_lpips)


def no_lpips(_reference: Any, _pictures: Any) -> float:
    return 0.0


def test_a_sound_quantizer_passes(bounded: Gate, rows_of: RowsOf) -> None:
    assert all(row.passed for row in rows_of(bounded))


@pytest.mark.parametrize("broken", CASES, ids=lambda broken: broken.patch.__name__)
def test_a_broken_one_is_caught(
    broken: Broken, bounded: Gate, rows_of: RowsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.patch(monkeypatch)
    rows = rows_of(bounded)
    assert {row.pipeline for row in rows if row.bits} == broken.touched
    assert broken.seen <= {row.pipeline for row in rows if row.missed}
    assert {row.pipeline for row in rows if not row.passed} == broken.touched


def test_a_decoder_with_the_nibbles_turned_round_is_caught(
    bounded: Gate, rows_of: RowsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the encoder turned round as well, the pictures are right and the bytes are not."""
    unpack = inverse.unpack

    def turned(data: Any, bits: int, channels: int, per_channel: int) -> Any:
        codes = np.frombuffer(data, np.uint8)
        wrong = codes if bits == 8 else (codes << 4 | codes >> 4).astype(np.uint8)
        return unpack(wrong.tobytes(), bits, channels, per_channel)

    high_nibble_first(monkeypatch)
    monkeypatch.setattr("codec_wire.decoder.unpack", turned)
    rows = rows_of(bounded)
    assert {row.pipeline for row in rows if row.bits} == FOUR_BITS
    assert not any(row.missed for row in rows)
