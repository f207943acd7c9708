"""Parser of map pins. A map pin is the hash of the latent-space map that a client uses."""

import re

from codec_wire.errors import InvalidRequest, truncated_repr
from codec_wire.http import MAP_PIN_HEADER

_PIN = re.compile(r"(?:.*;\s*sha256=|sha256:)([0-9a-f]{64})", re.IGNORECASE)


def parse_map_pin(pin: str | None) -> str | None:
    """Return the hash in a map pin as sha256:<hex>, or None if no pin is given.

    A pin is "sha256:<hex>" or "<url>;sha256=<hex>". Raises InvalidRequest if a pin has neither the form "sha256:<hex>"
    nor the form "<url>;sha256=<hex>".
    """
    if pin is None:
        return None
    match = _PIN.fullmatch(pin.strip())
    if match is None:
        raise InvalidRequest(
            MAP_PIN_HEADER, f'must be "sha256:<64 hex>" or "<url>;sha256=<64 hex>", got {truncated_repr(pin)}'
        )
    return f"sha256:{match[1].lower()}"
