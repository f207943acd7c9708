"""Conversion of the errors of jobs to errors that are safe to send to clients."""

import logging

from codec_wire.errors import INTERNAL_TEXT, CodecError, without_traceback

log = logging.getLogger(__name__)


def to_public_error(error: Exception) -> CodecError:
    """Convert `error` to a CodecError that is safe to send to clients.

    An exception that is not a CodecError is logged, and a CodecError with a generic message is returned.
    """
    if isinstance(error, CodecError):
        return without_traceback(error)
    log.error("generation failed", exc_info=error)
    return CodecError(INTERNAL_TEXT)
