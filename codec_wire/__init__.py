"""The Codec protocol without I/O: conversion between latents, messages and bytes.

A stream is one header and one or more frames of latents (see the module `latents`). `LatentEncoder` and `LatentDecoder`
convert between latents and frames with one of the seven encoding pipelines in the module `pipelines`. The function
`encode` converts a header or a frame to bytes in one of the two wire formats. `StreamReader` parses the bytes of a
stream, and `MessageDecoder` also decompresses the body of a stream. The module `request` defines generation requests,
the module `maps` defines latent-space maps, and the module `errors` defines all exceptions. The modules `http` and
`grpc` define the header names, paths and metadata keys that a client and a server must share. The package opens no
sockets and starts no threads. The package reads and writes files only for the bundle of a latent-space map.
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
