"""The Codec protocol without I/O: bytes in, messages out, and the reverse.

A stream is one header and one or more frames of latents (`latents`). `LatentEncoder` and `LatentDecoder` convert
between latents and frames with one of the seven `pipelines`. `encode` and `StreamReader` convert between these messages
and bytes, in either wire format; `MessageDecoder` also decompresses. Requests, latent-space maps (`maps`), errors and
the names that both ends use (`http`, `grpc`) are here too. Nothing in this package opens a socket, file or thread,
except that a map bundle can be read from and written to a directory.
"""

from typing import TYPE_CHECKING

from codec_wire.lazy_names import lazy_names

if TYPE_CHECKING:
    from codec_wire.formats import encode
    from codec_wire.reader import StreamReader
    from codec_wire.wire_format import WireFormat

__all__ = ["StreamReader", "WireFormat", "encode"]

# The error classes and the names, for example, need no NumPy.
__getattr__ = lazy_names(__name__, {"StreamReader": "reader", "WireFormat": "wire_format", "encode": "formats"})
