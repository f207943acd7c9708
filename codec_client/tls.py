"""TLS contexts of the clients."""

import os
import ssl

from codec_client.http_errors import reason_of
from codec_wire.errors import InvalidSettings


def tls_context(ca_file: str | os.PathLike[str] | None) -> ssl.SSLContext | None:
    """Return a TLS context that trusts the certificate authority in a PEM file; None if `ca_file` is None.

    Raises InvalidSettings if the file cannot be read or is not a PEM file.
    """
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=os.fspath(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(
            f"cannot read ca_file {os.fspath(ca_file)} as PEM certificates: {reason_of(error)}"
        ) from None
