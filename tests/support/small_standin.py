"""The stand-in with a size of its own that is quick to generate."""

from typing import Any

from tests.support.standin import build_pipeline


def build_small() -> Any:
    """Return the pipeline for 64x64 pixels."""
    return build_pipeline(sample_size=8)
