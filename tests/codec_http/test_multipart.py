"""Parsing of multipart/form-data: names, files, limits, and malformed bodies."""

import contextlib
import sys

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec_http.file_field import MAX_BASE64_CHARACTERS
from codec_http.json_body import MAX_FIELDS, MAX_JSON_BYTES
from codec_http.multipart import FormPart, form_fields, parse_multipart
from codec_wire.errors import CodecError, InvalidRequest, TooLarge
from core.input_image import MAX_IMAGE_BYTES

TYPE = "multipart/form-data; boundary=xyz"


def parse(body: bytes, content_type: str = TYPE) -> list[FormPart]:
    return parse_multipart(content_type, body)


async def body_of(form: aiohttp.FormData) -> tuple[bytes, str]:
    """Return the body and the Content-Type with which aiohttp's client sends `form`."""
    payload = form()
    body = await payload.as_bytes()
    return body, payload.headers["Content-Type"]


def part(name: str, data: bytes, rest: str = "") -> bytes:
    head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"{rest}\r\n\r\n'
    return head.encode() + data + b"\r\n"


async def test_text_and_files_are_read_unchanged() -> None:
    file = bytes(range(256)) * 2000 + b"\r\n--xy\r\n"
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("prompt", "a sea 🌊\r\n--")
    form.add_field("image[]", file, filename="a.png", content_type="image/png")
    form.add_field("empty", b"", filename="b.png")
    assert parse(*await body_of(form)) == [
        FormPart("prompt", "a sea 🌊\r\n--"),
        FormPart("image[]", file),
        FormPart("empty", b""),
    ]


async def test_values_have_the_types_of_json_except_in_text_fields() -> None:
    names = {"steps": "3", "seed": "null", "guidance_scale": "2.5", "hd": "true", "size": "64x64", "prompt": "7"}
    parts = [FormPart(name, text) for name, text in names.items()]
    assert form_fields(parts, {"prompt"}) == {
        "steps": 3,
        "seed": None,
        "guidance_scale": 2.5,
        "hd": True,
        "size": "64x64",
        "prompt": "7",
    }


def test_brackets_and_repeated_names_make_lists_and_objects() -> None:
    parts = [
        FormPart("image[]", b"1"),
        FormPart("image[]", b"2"),
        FormPart("mask", b"3"),
        FormPart("mask", b"4"),
        FormPart("reference[image_url]", "u"),
        FormPart("reference[scale]", "2"),
    ]
    assert form_fields(parts, ()) == {
        "image": [b"1", b"2"],
        "mask": [b"3", b"4"],
        "reference": {"image_url": "u", "scale": 2},
    }


@pytest.mark.parametrize(
    "names", [("a", "a[b]"), ("a[b]", "a"), ("a[b]", "a[]"), ("a[b]", "a[b]"), ("a[b][c]",), ("[a]",), ("a]",)]
)
def test_contradicting_or_malformed_names_are_rejected(names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest):
        form_fields([FormPart(name, "x") for name in names], ())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "boundary"),
        (b'{"prompt": "x"}', "boundary"),
        (part("a", b"b"), "body"),  # without the last boundary
        (part("a" * 65, b"b") + b"--xyz--\r\n", "1 to 64 characters"),
        (part("a", b"\xff") + b"--xyz--\r\n", "a: must be UTF-8"),
        (b"--xyz\r\n\r\nb\r\n--xyz--\r\n", "got a part without a name"),
        (b"--xyz\r\n" + b"X: y\r\n" * 1000 + b"\r\nb\r\n--xyz--\r\n", "headers"),
        (b"--xyz\r\nContent-Type: multipart/mixed; boundary=z\r\n\r\n--z\r\n\r\n--z--\r\n--xyz--\r\n", "in a part"),
        (part("a", b"b", "\r\nContent-Transfer-Encoding: base64") + b"--xyz--\r\n", "Content-Transfer-Encoding"),
        (part("a", b"b") * (MAX_FIELDS + 1) + b"--xyz--\r\n", f"at most {MAX_FIELDS} parts"),
        (part("a", bytes(MAX_IMAGE_BYTES + 1), '; filename="x"') + b"--xyz--\r\n", f"at most {MAX_IMAGE_BYTES} bytes"),
    ],
)
def test_malformed_body_is_rejected(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse(body)


@pytest.mark.parametrize("content_type", ["multipart/form-data", f"multipart/form-data; boundary={'x' * 71}"])
def test_invalid_boundary_is_rejected(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="boundary"):
        parse(b"--xyz--\r\n", content_type)


def test_too_much_text_is_rejected() -> None:
    with pytest.raises(TooLarge, match=f"at most {MAX_JSON_BYTES} bytes"):
        parse(part("a", bytes(MAX_JSON_BYTES // 2 + 1)) * 2 + b"--xyz--\r\n")


def test_base64_text_of_a_file_is_not_counted_as_text() -> None:
    body = part("image", bytes(MAX_JSON_BYTES + 1)) + b"--xyz--\r\n"
    with pytest.raises(TooLarge):
        parse(body)
    (found,) = parse_multipart(TYPE, body, ("image",))
    assert len(found.data) == MAX_JSON_BYTES + 1
    too_long = part("image", bytes(MAX_BASE64_CHARACTERS + 1)) + b"--xyz--\r\n"
    with pytest.raises(TooLarge):
        parse_multipart(TYPE, too_long, ("image",))


def test_parts_are_found_after_other_text_and_without_data() -> None:
    # RFC 2046, section 5.1.1: text before the first part and after the last one is ignored, as are spaces after a
    # boundary.
    body = b"ignored\r\n" + part("a", b"b").replace(b"--xyz", b"--xyz \t") + part("c", b"") + b"--xyz--\r\nignored"
    assert parse(body) == [FormPart("a", "b"), FormPart("c", "")]


@pytest.mark.parametrize(
    "body",
    [
        b"\n" * 900_000,
        b"\r\n--xy" * 150_000,
        part("a", b"\r\n--xy" * 150_000, '; filename="x"'),
        b"--xyz\r\n" + b"a:b\r\n" * 150_000,
    ],
    ids=["line breaks", "almost boundaries", "almost boundaries in a file", "headers"],
)
def test_number_of_calls_does_not_depend_on_the_size_of_the_body(body: bytes) -> None:
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        with contextlib.suppress(CodecError):
            parse(body)
    finally:
        sys.setprofile(None)
    assert 0 < calls < 1000


VALID = part("a", b"b") + part("c", bytes(40), '; filename="d"') + b"--xyz--\r\n"


@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionHeader")
@pytest.mark.filterwarnings("ignore::aiohttp.multipart.BadContentDispositionParam")
@given(st.integers(0, len(VALID)), st.binary(max_size=8), st.integers(0, 8))
def test_changed_bytes_cause_no_other_error(at: int, inserted: bytes, removed: int) -> None:
    with contextlib.suppress(CodecError):
        parse(VALID[:at] + inserted + VALID[at + removed :])
