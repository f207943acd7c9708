"""TLS certificates of the servers. Certificates can be replaced while the servers run."""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from codec_wire.errors import InvalidSettings
from core.access_settings import AccessSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Contents of the PEM files: the certificate chain, the private key, and the certificate authority of clients."""

    chain: bytes
    key: bytes
    client_ca: bytes | None


class ServerTls:
    """The certificate of a server, and the certificate authority of the clients if clients need a certificate.

    `certificates` contains the current certificates. `context` is an ssl context that uses the current certificates for
    every new connection.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        """Read the certificate files. Raises InvalidSettings if a file is not valid."""
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self.certificates, self._current = self._read()
        self.context = self._current

        def use_current(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self._current

        self.context.sni_callback = use_current  # called for every connection, also without a server name

    def reload(self) -> None:
        """Read the certificate files again.

        If a file is not valid, the error is logged and the previous certificates stay in use.
        """
        try:
            self.certificates, self._current = self._read()
        except InvalidSettings as error:
            log.error("cannot reload the TLS certificate; the previous certificate stays in use: %s", error)  # noqa: TRY400
            return
        log.info("read the TLS certificate %s", self._cert)

    def _read(self) -> tuple[Certificates, ssl.SSLContext]:
        ca = self._client_ca
        certificates = Certificates(
            read_pem("CODEC_TLS_CERT", self._cert),
            read_pem("CODEC_TLS_KEY", self._key),
            None if ca is None else read_pem("CODEC_TLS_CLIENT_CA", ca),
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            # An encrypted key fails; without a password, the ssl module would ask for one on the terminal.
            context.load_cert_chain(self._cert, self._key, password="")
        except (ssl.SSLError, OSError) as error:
            raise InvalidSettings(
                f"CODEC_TLS_CERT and CODEC_TLS_KEY: {self._cert} and {self._key} are not a certificate and its private "
                f"key in PEM format: {_reason(error)}"
            ) from None
        if ca is not None:
            try:
                context.load_verify_locations(ca)
            except (ssl.SSLError, OSError) as error:
                raise InvalidSettings(
                    f"CODEC_TLS_CLIENT_CA: {ca} is not a certificate in PEM format: {_reason(error)}"
                ) from None
            context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session would be accepted without the certificate of the client, which may have been revoked since.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        return certificates, context


def read_server_tls(settings: AccessSettings) -> ServerTls | None:
    """Return the TLS certificates that are configured in `settings`, or None if the servers do not use TLS.

    Raises InvalidSettings if a file is not valid, or if TLS is configured without a certificate or without a key.
    """
    cert, key, client_ca = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise InvalidSettings("TLS needs both CODEC_TLS_CERT (--tls-cert) and CODEC_TLS_KEY (--tls-key)")
    return ServerTls(cert, key, client_ca)


def read_pem(name: str, path: Path) -> bytes:
    """Return the contents of the file `path`.

    `name` is the name of the environment variable with the path, for error messages.

    Raises InvalidSettings if the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"{name}: cannot read {path}: {error.strerror}") from None


def _reason(error: ssl.SSLError | OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error).replace("_", " ").lower()
