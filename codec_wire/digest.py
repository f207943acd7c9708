"""Hashes in the form that the protocol uses, sha256:<64 hex>."""

import re

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Return whether `text` is sha256:<64 hex>. Check this before a received string becomes part of a path or URL."""
    return _DIGEST.fullmatch(text) is not None
