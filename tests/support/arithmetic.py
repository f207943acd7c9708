"""The two kinds of arithmetic with which arrays in host memory are encoded and decoded."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from codec_wire.pipelines import inverse, numpy_math
from codec_wire.pipelines.host import HOST, use_compiled_math

ARITHMETICS = ("numpy", "compiled")


@contextmanager
def arithmetic(name: str) -> Iterator[None]:
    """Encode and decode with the arithmetic `name`, one of ARITHMETICS, and restore the previous one."""
    before = HOST.encoding, HOST.decoding
    try:
        if name == "numpy":
            HOST.encoding, HOST.decoding = numpy_math, inverse
        elif not use_compiled_math():
            pytest.skip("the extra kernel is not installed")
        yield
    finally:
        HOST.encoding, HOST.decoding = before
