"""Conformance vectors: latents in, wire bytes out, reconstruction out, for each pipeline and both envelopes."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

from codec_golden.refused_streams import refused_streams
from codec_golden.vector_cases import CASES, Case, case_pipelines, inputs, stream_plan
from codec_golden.wire import FixtureStream, body_of, reconstruction
from codec_wire import WireFormat
from codec_wire.errors import CodecError
from codec_wire.pipelines import Pipeline

INDEX = "index.json"
README = "README.md"


def vector_files() -> dict[str, bytes]:
    """Return every file of the vectors by its path, as this encoder and decoder make them; the README apart."""
    files: dict[str, bytes] = {}
    index = []
    for case in CASES:
        files[f"{case.name}/latents.bin"] = inputs(case).astype(case.dtype.numpy).tobytes()
    for case, row in case_pipelines():
        plan, latents = stream_plan(case, row), inputs(case)
        paths = _paths(case, row)
        for wire_format in WireFormat:
            files[paths[wire_format]] = body_of(plan, latents, wire_format)
        body = files[paths[WireFormat.MSGPACK]]
        files[paths["reconstruction"]] = reconstruction(body, WireFormat.MSGPACK).astype("<f4").tobytes()
        index.append(_entry(case, row, plan, paths))
    refused = refused_streams()
    files |= {entry.path: entry.body for entry in refused}
    files[INDEX] = _json({"streams": index, "refused": [entry.described for entry in refused]})
    files["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in sorted(files.items())
    ).encode()
    return files


def _paths(case: Case, row: Pipeline) -> dict[str, str]:
    stem = f"{case.name}/{row.name}"
    return {wire_format: f"{stem}.{wire_format}" for wire_format in WireFormat} | {"reconstruction": f"{stem}.f32"}


def _entry(case: Case, row: Pipeline, plan: FixtureStream, paths: Mapping[str, str]) -> dict[str, object]:
    header = plan.header
    return {
        "latents": f"{case.name}/latents.bin",
        "dtype": header.dtype,
        "shape": list(header.shape),
        "frames": case.frames,
        "pipeline": row.name,
        "static_scales": header.scales and header.scales.hex(),
        "keyframes": [seq for seq, keyframe in enumerate(plan.keyframes) if keyframe],
        **{str(name): path for name, path in paths.items()},
    }


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def write_vectors(folder: Path) -> int:
    """Write every file of the vectors below `folder`, the README with them; return how many bytes that are."""
    files = vector_files() | {README: shipped(README)}
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return sum(map(len, files.values()))


def shipped(path: str) -> bytes:
    """Return a file of the vectors that the project ships."""
    return resources.files("codec_golden").joinpath("vectors").joinpath(path).read_bytes()


def failing_vectors() -> dict[str, list[str]]:
    """Return, by pipeline, where this encoder or decoder gives other bytes than the shipped vectors have.

    A pipeline that is not in it is right.
    """
    broken: dict[str, list[str]] = {}
    for case, row in case_pipelines():
        complaints = list(_faults(case, row))
        if complaints:
            broken.setdefault(row.name, []).extend(complaints)
    return broken


def _faults(case: Case, row: Pipeline) -> Iterator[str]:
    paths, plan, latents = _paths(case, row), stream_plan(case, row), inputs(case)
    for wire_format in WireFormat:
        expected = shipped(paths[wire_format])
        try:
            body = body_of(plan, latents, wire_format)
        except CodecError as error:
            yield f"vector {paths[wire_format]}: cannot be encoded: {error}"
            continue
        if body != expected:
            yield f"vector {paths[wire_format]}: encoded, it differs at byte {_first_difference(body, expected)}"
        try:
            decoded = reconstruction(expected, wire_format).astype("<f4").tobytes()
        except CodecError as error:
            yield f"vector {paths[wire_format]}: cannot be decoded: {error}"
            continue
        if decoded != shipped(paths["reconstruction"]):
            yield f"vector {paths[wire_format]}: decoded, it differs from {paths['reconstruction']}"


def _first_difference(one: bytes, other: bytes) -> int:
    pairs_of_bytes = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs_of_bytes) if a != b), min(len(one), len(other)))
