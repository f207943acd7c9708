"""Compiled loops return the numbers of NumPy and raise the same errors; everything works without the extra kernel."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_wire.decoder import LatentDecoder
from codec_wire.encoder import LatentEncoder
from codec_wire.errors import CodecError
from codec_wire.latents import LatentDtype, LatentFrame, LatentStreamHeader
from codec_wire.pipelines import inverse, numpy_math
from tests.support.arithmetic import ARITHMETICS, arithmetic
from tests.support.strategies import headers

pytest.importorskip("numba", reason="the extra kernel is not installed")

from codec_wire.pipelines import compiled_math

FINITE_SCALES = np.arange(0x7C00, dtype=np.uint16).view(np.float16)


def decoded(name: str, header: LatentStreamHeader, frames: list[LatentFrame]) -> list[Any]:
    """Return the bytes of the latents of each frame, and the type and text of the error that ends the stream."""
    results: list[Any] = []
    with arithmetic(name):
        decoder = LatentDecoder(header)
        try:
            for frame in frames:
                latents = decoder.decode(frame)
                results.append((latents.dtype, latents.shape, latents.tobytes()))
        except CodecError as error:
            results.append((type(error), str(error)))
    return results


@pytest.mark.slow
@settings(max_examples=400)
@given(headers(), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.002, 0.1]))
def test_arbitrary_frame_data_decodes_to_the_same_latents_or_error(
    header: LatentStreamHeader, seed: int, bad: float
) -> None:
    """Most codes and scales are valid; a byte of 0x80, 0xFF or 0x7C makes many of them invalid."""
    rng = np.random.default_rng(seed)
    spec, itemsize = header.pipeline_spec, header.dtype.numpy.itemsize
    header = LatentStreamHeader(header.latent_space_id, header.shape, header.dtype, header.pipeline, header.scales)
    frames = []
    for seq in range(3):
        keyframe = seq == 0 or not spec.delta or bool(rng.integers(2))
        size = spec.frame_size(header.shape, itemsize, keyframe=keyframe)
        data = rng.integers(1, 0x78, size, dtype=np.uint8) * rng.choice([1, 3], size).astype(np.uint8)
        if spec.bits == 4:
            data = np.where(data & 0x0F == 8, data + 1, data)
            data = np.where(data >> 4 == 8, data & 0x0F, data)
        wrong = rng.random(size) < bad
        data = np.where(wrong, rng.choice(np.array([0x80, 0xFF, 0x7C], np.uint8), size), data).astype(np.uint8)
        scales = rng.integers(0, 0x7C00, header.shape[0], dtype=np.uint16).astype("<u2").tobytes()
        payload = data.tobytes()
        if spec.frame_size(header.shape, itemsize, keyframe=keyframe) != spec.values_size(header.shape, itemsize):
            payload = scales + payload[len(scales) :]
        frames.append(LatentFrame(payload, seq, keyframe=keyframe, done=seq == 2))
    assert decoded("compiled", header, frames) == decoded("numpy", header, frames)


@pytest.mark.parametrize("max_code", [127, 7])
def test_every_code_with_every_scale_is_dequantized_as_by_the_formula(max_code: int) -> None:
    codes = np.tile(np.arange(-max_code, max_code + 1, dtype=np.int8), (len(FINITE_SCALES), 1))
    expected = inverse.dequantize(codes, FINITE_SCALES, max_code)
    values = compiled_math.dequantize(codes, FINITE_SCALES, max_code)
    np.testing.assert_array_equal(values.view(np.uint32), expected.view(np.uint32))


@pytest.mark.slow
@pytest.mark.parametrize("max_code", [127, 7])
def test_every_value_with_every_scale_has_the_code_of_the_formula(max_code: int) -> None:
    """All finite values and scales: two billion pairs."""
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)][np.newaxis]
    wide, factor, limit = values.astype(np.float32), np.float32(max_code), np.float32(max_code)
    for index, divisor in enumerate(FINITE_SCALES.astype(np.float32)):
        with np.errstate(over="ignore"):
            ratio = np.rint(wide / (divisor or np.float32(np.inf)) * factor)
        expected = np.clip(ratio, -limit, limit).astype(np.int8)
        scaling = compiled_math.scaling(FINITE_SCALES[index : index + 1], values.dtype, max_code)
        codes = compiled_math.quantize(values, scaling, max_code, saturate=True)
        assert np.array_equal(codes, expected), f"scale {divisor}"


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("count", [1, 2, 63, 64, 1001])
def test_packed_codes_equal_those_of_numpy_and_are_unpacked(bits: int, count: int) -> None:
    limit = 2 ** (bits - 1) - 1
    codes = np.random.default_rng(count).integers(-limit, limit, (1, count), dtype=np.int8, endpoint=True)
    packed = compiled_math.pack(codes, bits)
    assert packed == numpy_math.pack(codes, bits)
    np.testing.assert_array_equal(compiled_math.unpack(packed, bits, 1, count), codes)


@pytest.mark.parametrize("pipeline", ["raw", "int8", "int4", "int8-adaptive", "delta+int8"])
@pytest.mark.parametrize("position", [0, 1, 31, 32, 511, 1022])
@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7E00, 0xFE00, 0x7C01])
def test_infinity_or_nan_at_any_position_raises_the_error_of_numpy(pipeline: str, position: int, bits: int) -> None:
    scales = np.ones(1, "<f2").tobytes() if pipeline in ("int8", "int4") else None
    header = LatentStreamHeader("a/b", (1, 1023), LatentDtype.FP16, pipeline, scales)
    latent = np.full((1, 1023), 65504, np.float16)
    latent.view(np.uint16)[0, position] = bits
    messages = []
    for name in ARITHMETICS:
        with arithmetic(name), pytest.raises(CodecError) as raised:
            LatentEncoder(header).encode(latent, keyframe=True, last=True)
        messages.append((raised.type, str(raised.value)))
    assert messages[0] == messages[1]


def run(code: str, **environment: str) -> str:
    """Return what `code` prints in a new process."""
    command = [sys.executable, "-c", code]
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout.strip()


def test_without_the_extra_numpy_is_used() -> None:
    code = """
import sys
sys.modules["numba"] = None
from codec_wire.pipelines.host import HOST, use_compiled_math
print(use_compiled_math(), HOST.encoding.__name__, HOST.decoding.__name__)
"""
    assert run(code) == "False codec_wire.pipelines.numpy_math codec_wire.pipelines.inverse"


@pytest.mark.parametrize("reason", ["Numba needs NumPy 2.2 or less", "a library was not found"])
def test_numba_that_does_not_work_is_reported_and_numpy_is_used(reason: str, tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text(f"raise ImportError({reason!r})")
    code = """
from codec_wire.pipelines.host import HOST, use_compiled_math
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
print(use_compiled_math(), HOST.encoding.__name__)
"""
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    printed = run(code, PYTHONPATH=paths)
    assert printed == f"WARNING compiled loops are not used: {reason}\nFalse codec_wire.pipelines.numpy_math"


def test_loops_that_are_not_compiled_are_not_used() -> None:
    code = "from codec_wire.pipelines.host import use_compiled_math; print(use_compiled_math())"
    assert run(code, NUMBA_DISABLE_JIT="1") == "False"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_data_of_every_buffer_is_decoded(kind: Any) -> None:
    values = np.array([1, -2, 0.5], "<f2")
    for arithmetic_functions in (inverse, compiled_math):
        found = arithmetic_functions.finite_values(kind(values.tobytes()), np.dtype("<f2"))
        assert found is not None
        assert found.tolist() == values.tolist()
        values_with_nan = np.array([1, np.nan], "<f2").tobytes()
        assert arithmetic_functions.finite_values(kind(values_with_nan), np.dtype("<f2")) is None


def test_importing_the_encoder_and_decoder_does_not_import_numba() -> None:
    code = "import codec_wire.encoder, codec_wire.decoder, sys; print('numba' in sys.modules)"
    assert run(code) == "False"


PACK = """
import numpy as np
from codec_wire.pipelines.host import HOST, use_compiled_math
print(use_compiled_math(), HOST.encoding.pack(np.ones(3, np.int8), 4))
"""
PACKED = r"True b'\x11\x01'"


@pytest.mark.slow
def test_loops_are_compiled_if_no_cache_is_writable() -> None:
    assert run(PACK, NUMBA_CACHE_LOCATOR_CLASSES="ZipCacheLocator") == PACKED  # the package is not in a zip file


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_loops_are_compiled_if_the_cache_is_damaged(suffix: str, tmp_path: Path) -> None:
    assert run(PACK, NUMBA_CACHE_DIR=str(tmp_path)) == PACKED
    files = list(tmp_path.rglob(f"*.{suffix}"))
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:20])
    assert run(PACK, NUMBA_CACHE_DIR=str(tmp_path)) == PACKED


LOGGED = """
import logging, sys
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(levelname)s %(message)s")
from codec_wire.pipelines.host import use_compiled_math
use_compiled_math()
"""


@pytest.mark.slow
def test_compilation_is_logged_once_unless_the_loops_are_in_the_cache(tmp_path: Path) -> None:
    line = "INFO compiling loops that are not in Numba's cache, which takes several seconds"
    assert run(LOGGED, NUMBA_CACHE_DIR=str(tmp_path)) == line
    assert run(LOGGED, NUMBA_CACHE_DIR=str(tmp_path)) == ""
