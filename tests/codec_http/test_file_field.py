"""Files in JSON bodies, as base64 text and as data URLs."""

import pytest

from codec_http.file_field import decode_file_field
from codec_wire.errors import InvalidRequest


@pytest.mark.parametrize(
    "prefix",
    ["", "data:image/png;base64,", "data:;base64,", "DATA:image/png;BASE64,", "data:image/png;name=a%20b.png;base64,"],
)
def test_base64_and_data_urls_are_decoded(prefix: str) -> None:
    assert decode_file_field("image", f"{prefix}QUJD") == b"ABC"


@pytest.mark.parametrize("url", ["data:image/png,QUJD", "data:image/png;name=a.png,QUJD", f"data:{';a=b' * 9};base64,"])
def test_other_data_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="image: must start with data:<media type>;base64, got"):
        decode_file_field("image", url)
