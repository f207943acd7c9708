"""Selection of the arithmetic for arrays in host memory: NumPy, or loops that are compiled with Numba."""

import logging
from types import ModuleType

from codec_wire.first_line import first_line
from codec_wire.pipelines import inverse, numpy_math

log = logging.getLogger(__name__)


class Host:
    """Modules with the arithmetic for arrays in host memory.

    `encoding` has the functions of the module numpy_math, for fp16 values. `decoding` has the functions of the module
    inverse; its function finite_values is for fp16 values.
    """

    encoding: ModuleType = numpy_math
    decoding: ModuleType = inverse


HOST = Host()
"""The arithmetic of this process."""


def use_compiled_math() -> bool:
    """Encode and decode with compiled loops in this process from now on, if the extra `kernel` is installed.

    Return whether compiled loops are used. If Numba is installed but does not work, the reason is logged, and NumPy is
    used. LatentEncoder and LatentDecoder objects that exist already continue to use NumPy. The first call takes about
    half a second, or several seconds if Numba's cache is empty. A server calls this function when it starts. A client
    that encodes or decodes only a few frames is faster without it.
    """
    try:
        from codec_wire.pipelines import compiled_math  # noqa: PLC0415 - imports Numba, which is optional
    except Exception as error:  # for example, Numba does not support the installed version of NumPy
        if not (isinstance(error, ModuleNotFoundError) and error.name == "numba"):
            log.warning("compiled loops are not used: %s", first_line(error))
        return False
    HOST.encoding = HOST.decoding = compiled_math
    return True
