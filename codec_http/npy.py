"""Header of .npy files, in which the server sends decoded pixels.

The file format is version 1.0 of the format that the documentation of `numpy.lib.format` specifies.
"""

import io

import numpy as np


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy file with a uint8 array of `shape` in C order.

    The caller must write the values after the header.
    """
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()
