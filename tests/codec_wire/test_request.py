"""Messages for fields of a generation request that are not valid."""

from typing import Any

import pytest

from codec_wire.errors import InvalidRequest
from codec_wire.request import parse_request


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": 2**64}, f"seed: must be from 0 to {2**64 - 1}, or -1 for a random seed, got {2**64}"),
        ({"extra": "clip_skip=1"}, "extra: must be an object, got 'clip_skip=1'"),
    ],
)
def test_message_states_the_exact_rule_without_python_names(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_request({"prompt": "a sea", **fields})
    assert str(caught.value) == message
