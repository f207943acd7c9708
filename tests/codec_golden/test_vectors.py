"""The shipped vectors agree with the reference encoder, and their reconstructions with the published formula."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_golden import vectors
from codec_golden.vector_cases import CASES, ROUNDING_SCALES, case_latents, case_pipelines, stream_plan
from codec_golden.wire import decode_body
from codec_wire import WireFormat
from codec_wire.errors import StreamError
from tests.support.oracle import reference_messages

SHIPPED = Path(vectors.__file__).parent / "vectors"
INDEX = json.loads((SHIPPED / "index.json").read_text())


def test_write_vectors_reproduces_the_shipped_files(tmp_path: Path) -> None:
    size = vectors.write_vectors(tmp_path)
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    shipped = {path.relative_to(SHIPPED): path.read_bytes() for path in SHIPPED.rglob("*") if path.is_file()}
    assert written.keys() == shipped.keys()
    assert [name for name in written if written[name] != shipped[name]] == []
    assert size == sum(map(len, written.values())) < 200_000


@pytest.mark.parametrize(
    ("case", "pipeline"), [pytest.param(*pair, id=f"{pair[0].name}-{pair[1].name}") for pair in case_pipelines()]
)
def test_reference_encoder_produces_the_same_bytes(case: Any, pipeline: Any) -> None:
    stream = stream_plan(case, pipeline)
    for wire_format in WireFormat:
        messages = reference_messages(stream.header, case_latents(case), list(stream.keyframes), wire_format)
        assert b"".join(messages) == (SHIPPED / case.name / f"{pipeline.name}.{wire_format}").read_bytes()


@pytest.mark.parametrize("entry", INDEX["streams"], ids=lambda entry: entry["msgpack"].removesuffix(".msgpack"))
def test_reconstruction_agrees_with_the_formula(entry: dict[str, Any]) -> None:
    """Computed from the files without any code of the project, like another implementation would."""
    shape, frames = tuple(entry["shape"]), entry["frames"]
    dtype = {"fp16": "<f2", "fp32": "<f4"}[entry["dtype"]]
    latents = np.frombuffer((SHIPPED / entry["latents"]).read_bytes(), dtype).reshape(frames, shape[0], -1)
    expected = np.frombuffer((SHIPPED / entry["reconstruction"]).read_bytes(), "<f4").reshape(latents.shape)
    name = entry["pipeline"]
    if name == "raw":
        np.testing.assert_array_equal(expected, latents.astype("<f4"))
        return
    largest = np.float32(7 if name.endswith("int4") or name.startswith("int4") else 127)
    scales = key = np.zeros(0, np.float32)
    for seq, latent in enumerate(latents.astype(np.float32)):
        if entry["static_scales"] is not None:
            scales = np.frombuffer(bytes.fromhex(entry["static_scales"]), "<f2").astype(np.float32)[:, None]
        elif seq in entry["keyframes"]:
            scales = np.abs(latent).max(axis=1).astype("<f2").astype(np.float32)[:, None]
        ratio = np.divide(latent, scales, out=np.zeros_like(latent), where=scales != 0)
        codes = np.clip(np.rint(ratio * largest), -largest, largest)
        if name.startswith("delta") and seq not in entry["keyframes"]:
            codes = np.clip(key + np.clip(codes - key, -largest, largest), -largest, largest)
        else:
            key = codes
        np.testing.assert_array_equal(expected[seq], codes * scales / largest)


def test_vectors_cover_every_pipeline_and_both_kinds_of_frame() -> None:
    names = {entry["pipeline"] for entry in INDEX["streams"]}
    assert len(names) == 7
    delta = next(entry for entry in INDEX["streams"] if entry["msgpack"] == "video/delta+int4.msgpack")
    assert delta["keyframes"] == [0, 4]
    assert delta["frames"] == 6


def test_inputs_contain_edge_cases() -> None:
    odd = next(case for case in CASES if case.name == "odd")
    assert np.prod(odd.shape) % 2 == 1
    image = case_latents(CASES[0]).reshape(4, -1)
    assert not image[0].any()
    assert 0 < np.abs(image[2]).max() < 2.0**-14  # subnormal
    assert np.signbit(image[1][image[1] == 0]).any()  # -0.0
    assert {0.5, 1.5, 2.5} <= set(image[1].tolist())
    assert np.abs(image).max() > 2.5  # over the static scale


def test_inputs_detect_every_incorrect_rounding() -> None:
    case = next(case for case in CASES if case.name == "rounding")
    values = case_latents(case)[0].reshape(4, -1).astype(np.float32)
    scales = np.abs(values).max(axis=1, keepdims=True)
    assert scales.ravel().tolist() == list(ROUNDING_SCALES)
    for largest in (np.float32(7), np.float32(127)):
        ratio = values / scales * largest
        correct = np.rint(ratio)
        away = np.copysign(np.floor(np.abs(ratio) + np.float32(0.5)), ratio)
        assert (correct != away).sum() >= 8
        assert (correct != np.rint(values * (largest / scales))).sum() >= 4


@pytest.mark.parametrize("entry", INDEX["refused"], ids=lambda entry: Path(entry["msgpack"]).stem)
def test_invalid_stream_is_refused(entry: dict[str, str]) -> None:
    with pytest.raises(StreamError):
        decode_body((SHIPPED / entry["msgpack"]).read_bytes(), WireFormat.MSGPACK)


def test_sha256sums_lists_every_file() -> None:
    lines = (SHIPPED / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert {name: hashlib.sha256((SHIPPED / name).read_bytes()).hexdigest() for name in listed} == listed
    files = {path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*") if path.is_file()}
    assert files - set(listed) == {"README.md", "SHA256SUMS"}


def test_readme_example_is_a_shipped_file() -> None:
    """The bytes explained in the README are those of odd/int4.protobuf."""
    text = (SHIPPED / "README.md").read_text()
    shown = text.partition("<!-- odd/int4.protobuf -->")[2].partition("```")[2].partition("```")[0]
    digits = "".join(line.partition("|")[0] for line in shown.splitlines())
    assert bytes.fromhex("".join(digits.split())) == (SHIPPED / "odd" / "int4.protobuf").read_bytes()
