"""Buffer for decoded pixels that are received from a server."""

import io
from dataclasses import dataclass, field
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from codec_client.errors import UnexpectedAnswer

MAX_PIXEL_BYTES = 4 * 2**30
"""Maximum size of decoded pixels in bytes. For comparison, 720 frames of 1024x1024 pixels have 2.1 GiB."""
_NPY_PREFIX_BYTES = 256
"""Number of bytes at the start of a .npy file from which the header is read. The header of a .npy file has 128
bytes."""


@dataclass(slots=True)
class ReceivedPixels:
    """Received bytes of an image or video file, or of RGB values.

    If `shape` is set, `data` contains RGB values [frames, H, W, 3] that begin at `offset`.
    """

    data: bytearray = field(default_factory=bytearray)
    shape: tuple[int, ...] | None = None
    offset: int = 0

    def add(self, chunk: bytes) -> None:
        """Add received bytes. Raises UnexpectedAnswer if the response has more than MAX_PIXEL_BYTES bytes."""
        if len(self.data) + len(chunk) > MAX_PIXEL_BYTES:
            raise UnexpectedAnswer(f"the server sent more than {MAX_PIXEL_BYTES} bytes of pixels")
        self.data += chunk

    def read_npy_header(self) -> None:
        """Set `shape` and `offset` from the .npy file in `data`. Raises UnexpectedAnswer if the header is invalid."""
        file = io.BytesIO(self.data[:_NPY_PREFIX_BYTES])
        try:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("unknown version")
            self.shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        except (ValueError, TypeError, EOFError, SyntaxError, TokenError, RecursionError, MemoryError):
            # NumPy parses the header as Python, and finds these faults in it.
            raise UnexpectedAnswer("the server did not send a .npy file of pixels") from None
        if fortran_order or dtype != np.uint8:
            raise UnexpectedAnswer(f"the server sent pixels of dtype {dtype}, expected uint8 in C order")
        self.offset = file.tell()

    def frames(self) -> NDArray[np.uint8]:
        """Return the RGB values, an array [frames, H, W, 3].

        Raises UnexpectedAnswer if the received bytes do not have the shape [frames, H, W, 3].
        """
        values = np.frombuffer(self.data, np.uint8, offset=self.offset)
        try:
            frames = values.reshape(self.shape or ())
        except ValueError:
            frames = values
        if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size or -1 in (self.shape or ()):
            raise UnexpectedAnswer(f"the server sent {len(values)} bytes, which do not match the shape {self.shape}")
        return frames
