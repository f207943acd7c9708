"""inspect as a user runs it: what it says of sound streams, of damaged ones, and of files that are no streams."""

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


def test_inspect_says_what_a_stream_holds(tmp_path: Path) -> None:
    capture = tmp_path / "a.bin"
    capture.write_bytes(BODY)
    status, output = invoke("inspect", capture)
    assert status == 0
    for part in ("msgpack, identity", "latent_space_id  a/b", "frames    2: 8 bytes", "sound"):
        assert part in output
    status, output = invoke("inspect", capture, "--json")
    assert (status, json.loads(output)["frame_count"], json.loads(output)["sound"]) == (0, 2, True)


MSGPACK = WireFormat.MSGPACK


@pytest.mark.parametrize(
    ("data", "byte", "says"),
    [
        (BODY[:-3], HEADER_LENGTH + len(encode(FRAMES[0], MSGPACK)), "ends within a message"),
        (BODY[:HEADER_LENGTH], HEADER_LENGTH, "without a frame with done"),
        (b"", 0, "without a header|empty"),
        (
            encode(HEADER, MSGPACK) + encode(FRAMES[1], MSGPACK) + encode(FRAMES[0], MSGPACK),
            HEADER_LENGTH,
            "expected frame 0",
        ),
        (BODY + b"x", len(BODY), "after the last frame"),
        (BODY[:9] + b"\xff" + BODY[10:], 0, "WRONG"),
        (gzip.compress(BODY)[:-9], 0, "gzip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), 0, "a PNG image"),
        (b'{"error": {"message": "no"}}', 0, "an error that a server answered"),
        (b"PK\x03\x04" + bytes(50), 0, "zip archive"),
        (b'{"created": 1, "data": []}', 0, "pictures that a server rendered"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, 0, "an HTTP answer with its headers"),
        (b"root:x:0:0", 0, r"text, not a latent stream: 'root:x:0:0'"),
        (brotli.compress(b"\x07\x06" * 40), 0, "br has no mark: where it is that, name the encoding"),
        (bytes(100), 0, "WRONG"),
        (b"\xc1\x02" * 35, 0, "c1 02 c1 02 is neither the beginning of a msgpack map nor a protobuf length"),
    ],
)
def test_inspect_says_what_is_wrong_and_where(data: bytes, byte: int, says: str, tmp_path: Path) -> None:
    capture = tmp_path / "a.bin"
    capture.write_bytes(data)
    status, output = invoke("inspect", capture)
    assert status == 4, output
    assert re.search(says, output), output
    assert re.search(r"WRONG     at byte \d+: ", output), output
    if byte:
        assert f"at byte {byte}:" in output
    status, output = invoke("inspect", capture, "--json")
    assert (status, json.loads(output)["sound"]) == (4, False)


def inspected(folder: Path, data: bytes, *arguments: str) -> dict[str, Any]:
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
def test_of_a_compressed_body_all_is_seen_that_comes_before_the_fault(
    coding: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    body = video("raw", 24)
    packed = compress(body)
    whole = inspected(tmp_path, packed)
    assert (whole["sound"], whole["encoding"], whole["frame_count"]) == (True, coding, 24)
    cut = inspected(tmp_path, packed[: len(packed) // 2])
    assert (cut["sound"], cut["received_bytes"]) == (False, len(packed) // 2)
    if coding == "gzip":  # a zstd frame of this size is a single block, of which nothing is known before its end
        assert 8 <= cut["frame_count"] < 24
        offsets = [frame["offset"] for frame in cut["frames"]]
        assert cut["problem_offset"] == offsets[-1] + offsets[1] - offsets[0]
        wrong_sum = bytearray(packed)
        wrong_sum[-6] ^= 1
        summed = inspected(tmp_path, bytes(wrong_sum))
        assert (summed["sound"], summed["header_bytes"]) == (False, whole["header_bytes"])
        assert summed["frame_count"] >= 23
        assert "cannot be decompressed data check" in summed["problem"]


def test_scales_are_shown_as_the_numbers_they_are(tmp_path: Path) -> None:
    assert inspected(tmp_path, video("int8", 1))["header"]["scale_values"] == [3.0, 0.5]
    assert "4 bytes: 3, 0.5" in invoke("inspect", tmp_path / "a.bin")[1]
    adaptive = inspected(tmp_path, video("int8-adaptive", 2))
    assert [frame["scale_bytes"] for frame in adaptive["frames"]] == [4, 4]
    assert 0.4 < adaptive["frames"][0]["smallest_scale"] <= adaptive["frames"][0]["largest_scale"] <= 0.5


def test_br_is_read_where_it_is_named(tmp_path: Path) -> None:
    packed = brotli.compress(BODY)
    assert inspected(tmp_path, packed)["sound"] is False
    assert inspected(tmp_path, packed, "--encoding", "br")["sound"] is True


def test_the_header_counts_also_where_the_first_frame_is_cut(tmp_path: Path) -> None:
    assert inspected(tmp_path, BODY[: HEADER_LENGTH + 5])["header_bytes"] == HEADER_LENGTH


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("noise")


@settings(max_examples=60)
@given(noise=st.binary(max_size=200), begins_well=st.booleans())
def test_inspect_never_fails_otherwise(folder: Path, noise: bytes, begins_well: bool) -> None:
    capture = folder / "a.bin"
    capture.write_bytes(BODY[: len(noise)] + noise if begins_well else noise)
    assert invoke("inspect", capture, "--json")[0] == 4
