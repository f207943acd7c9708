"""Conformance vectors, which contain latents, encoded bodies and decoded latents for each encoding pipeline."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

from codec_golden.refused_streams import refused_streams
from codec_golden.vector_cases import CASES, Case, case_latents, case_pipelines, stream_plan
from codec_golden.wire import FixtureStream, encode_body, reconstruction
from codec_wire import WireFormat
from codec_wire.errors import CodecError
from codec_wire.pipelines import Pipeline

INDEX = "index.json"
README = "README.md"


def vector_files() -> dict[str, bytes]:
    """Return all files of the conformance vectors except the README, in a dictionary by path.

    The encoder and the decoder of this project generate the files.
    """
    files: dict[str, bytes] = {}
    index = []
    for case in CASES:
        files[f"{case.name}/latents.bin"] = case_latents(case).astype(case.dtype.numpy).tobytes()
    for case, pipeline in case_pipelines():
        stream, latents = stream_plan(case, pipeline), case_latents(case)
        paths = _paths(case, pipeline)
        for wire_format in WireFormat:
            files[paths[wire_format]] = encode_body(stream, latents, wire_format)
        body = files[paths[WireFormat.MSGPACK]]
        files[paths["reconstruction"]] = reconstruction(body, WireFormat.MSGPACK).astype("<f4").tobytes()
        index.append(_index_entry(case, pipeline, stream, paths))
    refused = refused_streams()
    files |= {one.path: one.body for one in refused}
    files[INDEX] = _json({"streams": index, "refused": [one.index_entry for one in refused]})
    files["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in sorted(files.items())
    ).encode()
    return files


def _paths(case: Case, pipeline: Pipeline) -> dict[str, str]:
    stem = f"{case.name}/{pipeline.name}"
    return {wire_format: f"{stem}.{wire_format}" for wire_format in WireFormat} | {"reconstruction": f"{stem}.f32"}


def _index_entry(case: Case, pipeline: Pipeline, stream: FixtureStream, paths: Mapping[str, str]) -> dict[str, object]:
    header = stream.header
    return {
        "latents": f"{case.name}/latents.bin",
        "dtype": header.dtype,
        "shape": list(header.shape),
        "frames": case.latent_frames,
        "pipeline": pipeline.name,
        "static_scales": header.scales and header.scales.hex(),
        "keyframes": [seq for seq, keyframe in enumerate(stream.keyframes) if keyframe],
        **{str(name): path for name, path in paths.items()},
    }


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def write_vectors(folder: Path) -> int:
    """Write every file of the conformance vectors to `folder`, including the README.

    Return the total size of the files in bytes.
    """
    files = vector_files() | {README: read_shipped(README)}
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return sum(map(len, files.values()))


def read_shipped(path: str) -> bytes:
    """Return the content of one file of the conformance vectors in this package."""
    return resources.files("codec_golden").joinpath("vectors").joinpath(path).read_bytes()


def failing_vectors() -> dict[str, list[str]]:
    """Compare the encoder and the decoder of this project with the conformance vectors in this package.

    Return a dictionary of faults by the name of the encoding pipeline. Encoding pipelines without faults are left out.
    """
    failing: dict[str, list[str]] = {}
    for case, pipeline in case_pipelines():
        faults = list(_faults(case, pipeline))
        if faults:
            failing.setdefault(pipeline.name, []).extend(faults)
    return failing


def _faults(case: Case, pipeline: Pipeline) -> Iterator[str]:
    paths, stream, latents = _paths(case, pipeline), stream_plan(case, pipeline), case_latents(case)
    for wire_format in WireFormat:
        path = paths[wire_format]
        expected = read_shipped(path)
        try:
            body = encode_body(stream, latents, wire_format)
        except CodecError as error:
            yield f"vector {path}: encoding failed: {error}"
            continue
        if body != expected:
            yield f"vector {path}: the encoded body differs at byte {_first_difference(body, expected)}"
        try:
            decoded = reconstruction(expected, wire_format).astype("<f4").tobytes()
        except CodecError as error:
            yield f"vector {path}: decoding failed: {error}"
            continue
        if decoded != read_shipped(paths["reconstruction"]):
            yield f"vector {path}: the decoded latents differ from {paths['reconstruction']}"


def _first_difference(one: bytes, other: bytes) -> int:
    byte_pairs = zip(one, other, strict=False)
    return next((offset for offset, (a, b) in enumerate(byte_pairs) if a != b), min(len(one), len(other)))
