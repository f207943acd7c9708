"""TLS credentials for the gRPC server, and for the connection of a gateway to its upstream servers."""

from typing import Any

import grpc

from codec_wire.errors import InvalidSettings
from core.access_settings import AccessSettings
from core.tls import Certificates, ServerTls, read_pem


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Return server credentials that use the current certificates of `tls` for every new connection."""
    applied = tls.certificates

    def fetch() -> Any:
        """Return the new certificate configuration, or None if the certificates have not changed."""
        nonlocal applied
        if tls.certificates is applied:
            return None
        applied = tls.certificates
        return _configuration(applied)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(applied), fetch, require_client_authentication=applied.client_ca is not None
    )


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    pair = (certificates.key, certificates.chain)
    return grpc.ssl_server_certificate_configuration([pair], certificates.client_ca)


def upstream_credentials(settings: AccessSettings) -> grpc.ChannelCredentials | None:
    """Return the credentials of a gateway for its upstream server, or None if the connection does not use TLS.

    Raises InvalidSettings if a file cannot be read, or if a required setting is missing.
    """
    ca, cert, key = settings.upstream_tls_ca, settings.upstream_tls_cert, settings.upstream_tls_key
    if ca is None and cert is None and key is None:
        return None
    if ca is None or (cert is None) != (key is None):
        raise InvalidSettings(
            "TLS to the upstream server needs CODEC_UPSTREAM_TLS_CA (--upstream-tls-ca); a client certificate "
            "needs both CODEC_UPSTREAM_TLS_CERT (--upstream-tls-cert) and CODEC_UPSTREAM_TLS_KEY (--upstream-tls-key)"
        )
    return grpc.ssl_channel_credentials(
        read_pem("CODEC_UPSTREAM_TLS_CA", ca),
        None if key is None else read_pem("CODEC_UPSTREAM_TLS_KEY", key),
        None if cert is None else read_pem("CODEC_UPSTREAM_TLS_CERT", cert),
    )
