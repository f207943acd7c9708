"""Selection of the zstd dictionary with which a body was compressed."""

from collections.abc import Mapping

import zstandard

from codec_wire.errors import StreamError


def find_dictionary(head: bytes, dictionaries: Mapping[str, bytes]) -> bytes | None:
    """Return the zstd dictionary that a body needs, or None if the body needs no dictionary.

    `head` contains the first bytes of the body. Only the values of `dictionaries` are used, and the keys are ignored.
    Raises StreamError if the body needs a dictionary that is not in `dictionaries`.
    """
    try:
        dictionary_id = zstandard.get_frame_parameters(head).dict_id
    except zstandard.ZstdError:
        return None  # the decompressor will report the error
    if not dictionary_id:
        return None
    for data in dictionaries.values():
        if zstandard.ZstdCompressionDict(data).dict_id() == dictionary_id:
            return data
    message = f"the body needs the zstd dictionary with the id {dictionary_id}, which is not in any available map"
    raise StreamError(message, 0)
