"""Network addresses as text."""

import pytest

from core.address import host_port


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80"), ("::", "[::]:80"), ("a.b", "a.b:80")]
)
def test_ipv6_addresses_are_in_brackets(host: str, expected: str) -> None:
    assert host_port(host, 80) == expected
