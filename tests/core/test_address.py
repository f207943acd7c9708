"""Network addresses as text."""

import pytest

from core.address import host_of, host_port


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("::", "[::]:80"), ("a.b", "a.b:80")]
)
def test_ipv6_addresses_are_in_brackets(host: str, expected: str) -> None:
    assert host_port(host, 80) == expected


@pytest.mark.parametrize(
    ("text", "host"),
    [
        *(("a.b:80", "a.b"), ("A.b", "a.b"), ("127.0.0.1:1", "127.0.0.1"), ("[::1]:80", "::1"), ("[::1]", "::1")),
        *((text, None) for text in ("", "a b", "a:", "a:x", "::1", "user@a", "a/b", "[g]", "a:1:2")),
    ],
)
def test_host_is_separated_from_its_port(text: str, host: str | None) -> None:
    assert host_of(text) == host
