"""The command inspect: valid streams, corrupt streams, and files that are not streams."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_wire import WireFormat, encode
from codec_wire.encoder import LatentEncoder
from codec_wire.latents import LatentDtype, LatentStreamHeader
from tests.support.commands import invoke
from tests.support.sample_stream import BODY, FRAMES, HEADER, HEADER_LENGTH


def test_inspect_prints_the_contents_of_a_stream(tmp_path: Path) -> None:
    capture = tmp_path / "a.bin"
    capture.write_bytes(BODY)
    status, output = invoke("inspect", capture)
    assert status == 0
    for part in ("msgpack, identity", "latent_space_id  a/b", "frames    2: 8 bytes", "valid"):
        assert part in output
    status, output = invoke("inspect", capture, "--json")
    assert (status, json.loads(output)["frame_count"], json.loads(output)["sound"]) == (0, 2, True)


MSGPACK = WireFormat.MSGPACK


@pytest.mark.parametrize(
    ("data", "offset", "message"),
    [
        (BODY[:-3], HEADER_LENGTH + len(encode(FRAMES[0], MSGPACK)), "ends within a message"),
        (BODY[:HEADER_LENGTH], HEADER_LENGTH, "without a last frame"),
        (b"", 0, "without a header|empty"),
        (
            encode(HEADER, MSGPACK) + encode(FRAMES[1], MSGPACK) + encode(FRAMES[0], MSGPACK),
            HEADER_LENGTH,
            "expected frame 0",
        ),
        (BODY + b"x", len(BODY), "follow the last frame"),
        (BODY[:9] + b"\xff" + BODY[10:], 0, "INVALID"),
        (gzip.compress(BODY, mtime=0)[:-9], 0, "gzip"),  # pytest-xdist needs equal test names in all processes
        (b"\x89PNG\r\n\x1a\n" + bytes(50), 0, "a PNG image"),
        (b'{"error": {"message": "no"}}', 0, "a JSON error response"),
        (b"PK\x03\x04" + bytes(50), 0, "zip archive"),
        (b'{"created": 1, "data": []}', 0, "a JSON response with rendered images"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, 0, "an HTTP response with its headers"),
        (b"root:x:0:0", 0, r"text, not a latent stream: 'root:x:0:0'"),
        (brotli.compress(b"\x07\x06" * 40), 0, "br cannot be detected"),
        (bytes(100), 0, "INVALID"),
        (b"\xc1\x02" * 35, 0, "its first bytes, c1 02 c1 02, begin neither a msgpack map nor a protobuf length"),
    ],
)
def test_inspect_prints_the_error_and_its_offset(data: bytes, offset: int, message: str, tmp_path: Path) -> None:
    capture = tmp_path / "a.bin"
    capture.write_bytes(data)
    status, output = invoke("inspect", capture)
    assert status == 4, output
    assert re.search(message, output), output
    assert re.search(r"INVALID   at byte \d+: ", output), output
    if offset:
        assert f"at byte {offset}:" in output
    status, output = invoke("inspect", capture, "--json")
    assert (status, json.loads(output)["sound"]) == (4, False)


def inspect_json(folder: Path, data: bytes, *arguments: str) -> dict[str, Any]:
    capture = folder / "a.bin"
    capture.write_bytes(data)
    _, output = invoke("inspect", capture, "--json", *arguments)
    report: dict[str, Any] = json.loads(output)
    return report


def video(pipeline: str, count: int) -> bytes:
    scales = np.array([3, 0.5], "<f2").tobytes() if pipeline == "int8" else None
    header = LatentStreamHeader("a/b", (2, 16, 16), LatentDtype.FP16, pipeline, scales, fps=8, total_frames=count)
    encoder, rng = LatentEncoder(header), np.random.default_rng(0)
    frames = [
        encoder.encode(rng.uniform(-0.5, 0.5, header.shape), keyframe=True, last=seq == count - 1)
        for seq in range(count)
    ]
    return encode(header, MSGPACK) + b"".join(encode(frame, MSGPACK) for frame in frames)


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_frames_before_the_error_of_a_compressed_body_are_reported(
    coding: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    body = video("raw", 24)
    packed = compress(body)
    whole = inspect_json(tmp_path, packed)
    assert (whole["sound"], whole["encoding"], whole["frame_count"]) == (True, coding, 24)
    cut = inspect_json(tmp_path, packed[: len(packed) // 2])
    assert (cut["sound"], cut["received_bytes"]) == (False, len(packed) // 2)
    if coding == "gzip":  # a zstd frame of this size is one block, which is decompressed as a whole
        assert 8 <= cut["frame_count"] < 24
        offsets = [frame["offset"] for frame in cut["frames"]]
        assert cut["problem_offset"] == offsets[-1] + offsets[1] - offsets[0]
        wrong_checksum = bytearray(packed)
        wrong_checksum[-6] ^= 1
        invalid = inspect_json(tmp_path, bytes(wrong_checksum))
        assert (invalid["sound"], invalid["header_bytes"]) == (False, whole["header_bytes"])
        assert invalid["frame_count"] >= 23
        assert "incorrect data check" in invalid["problem"]


def test_scales_are_printed_as_numbers(tmp_path: Path) -> None:
    assert inspect_json(tmp_path, video("int8", 1))["header"]["scale_values"] == [3.0, 0.5]
    assert "4 bytes: 3, 0.5" in invoke("inspect", tmp_path / "a.bin")[1]
    adaptive = inspect_json(tmp_path, video("int8-adaptive", 2))
    assert [frame["scale_bytes"] for frame in adaptive["frames"]] == [4, 4]
    assert 0.4 < adaptive["frames"][0]["smallest_scale"] <= adaptive["frames"][0]["largest_scale"] <= 0.5


def test_br_needs_the_encoding_option(tmp_path: Path) -> None:
    packed = brotli.compress(BODY)
    assert inspect_json(tmp_path, packed)["sound"] is False
    assert inspect_json(tmp_path, packed, "--encoding", "br")["sound"] is True


def test_header_size_is_reported_if_the_first_frame_is_truncated(tmp_path: Path) -> None:
    assert inspect_json(tmp_path, BODY[: HEADER_LENGTH + 5])["header_bytes"] == HEADER_LENGTH


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("noise")


@pytest.mark.slow
@settings(max_examples=60)
@given(noise=st.binary(max_size=200), valid_start=st.booleans())
def test_random_bytes_are_always_reported_as_invalid(folder: Path, noise: bytes, valid_start: bool) -> None:
    capture = folder / "a.bin"
    capture.write_bytes(BODY[: len(noise)] + noise if valid_start else noise)
    assert invoke("inspect", capture, "--json")[0] == 4
