"""TLS contexts of the clients."""

import os
import ssl
from typing import TypeAlias

from codec_client.http_errors import reason_of
from codec_wire.errors import InvalidSettings

PemFile: TypeAlias = str | os.PathLike[str] | None


def tls_context(ca_file: PemFile, cert_file: PemFile, key_file: PemFile) -> ssl.SSLContext | None:
    """Return a TLS context that trusts the certificate authority in `ca_file`.

    If `ca_file` is not given, the context trusts the system's certificate authorities. The context sends the client
    certificate in `cert_file`. The file `key_file` contains the private key of the client certificate. Return None if
    `ca_file`, `cert_file` and `key_file` are all None. Raises InvalidSettings if a file cannot be read or is not a PEM
    file, or if only one of `cert_file` and `key_file` is given.
    """
    require_pair(cert_file, key_file)
    if ca_file is None and cert_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else os.fspath(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(f"cannot read ca_file {ca_file} as PEM certificates: {reason_of(error)}") from None
    if cert_file is not None:
        try:
            # An encrypted key fails; without a password, the ssl module would ask for one on the terminal.
            context.load_cert_chain(os.fspath(cert_file), None if key_file is None else os.fspath(key_file), "")
        except (OSError, ssl.SSLError) as error:
            raise InvalidSettings(
                f"cannot read cert_file {cert_file} and key_file {key_file} as a PEM certificate and its key: "
                f"{reason_of(error)}"
            ) from None
    return context


def require_pair(cert_file: PemFile, key_file: PemFile) -> None:
    """Raise InvalidSettings if only one of `cert_file` and `key_file` is given."""
    if (cert_file is None) != (key_file is None):
        raise InvalidSettings("a client certificate needs both cert_file and key_file")
