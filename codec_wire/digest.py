"""Validation of hashes, which have the form sha256:<64 hex> in the Codec protocol."""

import re

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Return whether `text` is a hash in the form sha256:<64 hex>.

    Call this function before a received string becomes part of a path or URL.
    """
    return _DIGEST.fullmatch(text) is not None
