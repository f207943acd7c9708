"""The gate detects small errors in a quantizer for every affected pipeline: by bytes, and by pixels if visible."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from codec_golden.errors import NotMeasured
from codec_golden.gate import Gate, Row
from codec_golden.reference import ReferenceModel
from codec_golden.storage import (
    LATENTS,
    GoldenFixture,
    Pixels,
    find_fixtures,
    latents_from_bytes,
    latents_to_bytes,
)
from codec_golden.thresholds import compute_thresholds
from codec_maps.annotations import with_thresholds
from codec_wire import encoder
from codec_wire.encoder import LatentEncoder
from codec_wire.maps.document import QualityThresholds
from codec_wire.pipelines import PIPELINES, inverse, numpy_math, torch_math
from tests.support.arithmetic import arithmetic
from tests.support.reference_model import SUITE, shipped_bundle, write_goldens

pytestmark = pytest.mark.slow

QUANTIZED = frozenset(PIPELINES) - {"raw"}
DELTA = frozenset({"delta+int8", "delta+int4"})
STATIC = frozenset({"int8", "int4"})
FOUR_BITS = frozenset({"int4", "int4-adaptive", "delta+int4"})
FRAME_SCALES = QUANTIZED - STATIC
Patch = Callable[[pytest.MonkeyPatch], None]
Evaluate = Callable[[], list[Row]]


def divisor_column(scaling: numpy_math.Scaling) -> Any:
    """Return the scales as float32 [channels, 1], with infinity instead of 0."""
    column = scaling.scales.astype(np.float32)
    column[column == 0] = np.inf
    return column[:, np.newaxis]


def round_half_away(patch: pytest.MonkeyPatch) -> None:
    """Round halves away from zero instead of to the even neighbour."""

    def by_numpy(values: Any, scaling: Any, max_code: int, *, saturate: bool) -> Any:
        column = divisor_column(scaling)
        with np.errstate(over="ignore"):
            ratio = values.astype(np.float32) / column * np.float32(max_code)
        rounded = np.copysign(np.floor(np.abs(ratio) + np.float32(0.5)), ratio)
        return np.clip(rounded, -max_code, max_code).astype(np.int8)

    def by_torch(values: Any, scaling: Any, max_code: int, *, saturate: bool) -> Any:
        ratio = values.float() / scaling * float(max_code)
        rounded = torch.copysign(torch.floor(ratio.abs() + 0.5), ratio)
        return rounded.clamp(-max_code, max_code).to(torch.int8)

    patch.setattr(numpy_math, "quantize", by_numpy)
    patch.setattr(torch_math, "quantize", by_torch)


def no_clip(patch: pytest.MonkeyPatch) -> None:
    """Let values above their scale overflow instead of clipping them."""
    for math in (numpy_math, torch_math):
        quantize: Any = math.quantize
        wrong = lambda *a, quantize=quantize, saturate: quantize(*a, saturate=False)  # noqa: E731
        patch.setattr(math, "quantize", wrong)
    patch.setattr(numpy_math, "residual", lambda codes, key: codes - key.codes)
    patch.setattr(torch_math, "residual", lambda codes, key: codes - key[0])


def scales_swapped(patch: pytest.MonkeyPatch) -> None:
    """Write the scales to the frame in reverse order of the channels."""
    for math in (numpy_math, torch_math):
        to_bytes: Any = math.to_bytes

        def swapped(values: Any, to_bytes: Any = to_bytes) -> Any:
            data = to_bytes(values)
            return data if values.ndim != 1 else np.frombuffer(data, "<f2")[::-1].tobytes()

        patch.setattr(math, "to_bytes", swapped)


def high_nibble_first(patch: pytest.MonkeyPatch) -> None:
    """Pack two 4-bit codes with the high nibble first."""
    for math in (numpy_math, torch_math):
        pack: Any = math.pack

        def swapped_nibbles(codes: Any, bits: int, pack: Any = pack) -> Any:
            data = np.frombuffer(pack(codes, bits), np.uint8)
            return data.tobytes() if bits == 8 else (data << 4 | data >> 4).astype(np.uint8).tobytes()

        patch.setattr(math, "pack", swapped_nibbles)


def wrong_keyframe(patch: pytest.MonkeyPatch) -> None:
    """Compute residuals against the previous frame instead of the keyframe."""
    encode_values: Any = LatentEncoder._encode_values

    def with_updated_key(self: Any, latent: Any, *, keyframe: bool) -> Any:
        data = encode_values(self, latent, keyframe=keyframe)
        if self._spec.delta and not keyframe:
            math, values = encoder._cast(latent, self._dtype, self._host_math)
            values = values.reshape(len(values), -1)
            codes = math.quantize(values, self._scaling, self._spec.max_code, saturate=True)
            self._key_codes = math.key_codes(codes, self._spec.max_code)
        return data

    patch.setattr(LatentEncoder, "_encode_values", with_updated_key)


def multiplied_first(patch: pytest.MonkeyPatch) -> None:
    """Compute x * (Q / s) instead of (x / s) * Q, which changes a few codes, too few to be visible."""

    def by_numpy(values: Any, scaling: Any, max_code: int, *, saturate: bool) -> Any:
        column = divisor_column(scaling)
        with np.errstate(over="ignore"):
            ratio = values.astype(np.float32) * (np.float32(max_code) / column)
        return np.clip(np.rint(ratio), -max_code, max_code).astype(np.int8)

    def by_torch(values: Any, scaling: Any, max_code: int, *, saturate: bool) -> Any:
        ratio = values.float() * (float(max_code) / scaling)
        return ratio.round().clamp(-max_code, max_code).to(torch.int8)

    patch.setattr(numpy_math, "quantize", by_numpy)
    patch.setattr(torch_math, "quantize", by_torch)


@dataclass(frozen=True)
class QuantizerFault:
    """An error in a quantizer.

    The pipelines in `affected` produce different bytes. Of these, at least those in `visible` also miss their bounds;
    whether others do depends on the model, its scales and the images.
    """

    patch: Patch
    affected: frozenset[str]
    visible: frozenset[str]


CASES = [
    QuantizerFault(round_half_away, QUANTIZED, frozenset()),
    QuantizerFault(no_clip, STATIC | DELTA, frozenset({"int4", "delta+int4", "delta+int8"})),
    QuantizerFault(scales_swapped, FRAME_SCALES, FRAME_SCALES),
    QuantizerFault(high_nibble_first, FOUR_BITS, FOUR_BITS),
    QuantizerFault(wrong_keyframe, DELTA, DELTA),
    QuantizerFault(multiplied_first, QUANTIZED, frozenset()),
]


@pytest.fixture(scope="module", autouse=True)
def with_numpy() -> Iterator[None]:
    """The errors below are made in the modules with NumPy."""
    with arithmetic("numpy"):
        yield


@pytest.fixture(scope="module", autouse=True)
def without_vmaf() -> Iterator[None]:
    """VMAF has no bounds and takes a second per row."""

    def not_measured(*_arguments: object) -> float:
        raise NotMeasured("disabled in this test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("codec_golden.gate.vmaf", not_measured)
        yield


@pytest.fixture(scope="module")
def abrupt_video(
    goldens: list[GoldenFixture], reference: ReferenceModel, tmp_path_factory: pytest.TempPathFactory
) -> GoldenFixture:
    """The short video with the latents of its second half negated.

    Its frames differ from the keyframe by more than the scale, so their residuals must be clipped.
    """
    key, folder = "video-short", tmp_path_factory.mktemp("abrupt")
    (golden,) = (one for one in goldens if one.key == key)
    stored = golden.folder / LATENTS
    shape = (golden.manifest.fixture.frames, *golden.manifest.latent_shape)
    latents = latents_from_bytes(stored.read_bytes(), shape, stored)
    latents[len(latents) // 2 :] *= -1
    (folder / f"{key}.bin").write_bytes(latents_to_bytes(latents))
    (golden,) = find_fixtures(write_goldens(folder, reference, key, captures=folder), None)
    return golden


@pytest.fixture(scope="module")
def evaluate(goldens: list[GoldenFixture], abrupt_video: GoldenFixture, reference: ReferenceModel) -> Evaluate:
    """A function that runs the gate on all fixtures, with the bounds of the correct quantizer.

    The abrupt video has bounds of its own, because its images lose more. Decoded latents are cached, because most
    errors leave most pipelines unchanged.
    """
    bundle, decoded = shipped_bundle(), dict[bytes, Pixels]()

    def decode(latents: Any) -> Pixels:
        key = latents.tobytes()
        if key not in decoded:
            decoded[key] = reference.pixels(latents)
        return decoded[key]

    def rows_of(gate: Gate, fixtures: list[GoldenFixture]) -> list[Row]:
        return list(gate.evaluate_encoded(fixtures, decode, reference.torch_device))

    def gate_for(fixtures: list[GoldenFixture]) -> Gate:
        correct = compute_thresholds(rows_of(Gate(bundle, no_lpips), fixtures), SUITE)
        bounds = {name: QualityThresholds.model_validate(one) for name, one in correct.items()}
        return Gate(with_thresholds(bundle, bounds), no_lpips)

    gates = [(gate_for(fixtures), fixtures) for fixtures in (goldens, [abrupt_video])]
    return lambda: [row for gate, fixtures in gates for row in rows_of(gate, fixtures)]


def no_lpips(_reference: Any, _images: Any) -> float:
    return 0.0


def test_correct_quantizer_passes(evaluate: Evaluate) -> None:
    assert all(row.passed for row in evaluate())


@pytest.mark.parametrize("fault", CASES, ids=lambda fault: fault.patch.__name__)
def test_broken_quantizer_fails_for_affected_pipelines(
    fault: QuantizerFault, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault.patch(monkeypatch)
    rows = evaluate()
    assert {row.pipeline for row in rows if row.bits} == fault.affected
    assert fault.visible <= {row.pipeline for row in rows if row.missed}
    assert {row.pipeline for row in rows if not row.passed} == fault.affected


def test_swapped_nibbles_in_encoder_and_decoder_fail_by_bytes_only(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the encoder and the decoder swap nibbles, the images are correct and the bytes are not."""
    unpack = inverse.unpack

    def swapped_nibbles(data: Any, bits: int, channels: int, per_channel: int) -> Any:
        codes = np.frombuffer(data, np.uint8)
        wrong = codes if bits == 8 else (codes << 4 | codes >> 4).astype(np.uint8)
        return unpack(wrong.tobytes(), bits, channels, per_channel)

    high_nibble_first(monkeypatch)
    monkeypatch.setattr(inverse, "unpack", swapped_nibbles)
    rows = evaluate()
    assert {row.pipeline for row in rows if row.bits} == FOUR_BITS
    assert not any(row.missed for row in rows)
