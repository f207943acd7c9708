"""Detection of the environment variables that Kubernetes sets for each Service in a namespace (service links).

For a Service named `codec`, a pod gets variables such as CODEC_PORT=tcp://10.96.0.10:8080, CODEC_SERVICE_HOST and
CODEC_PORT_8080_TCP_ADDR. The variables of service links are not settings.
"""

import re
from collections.abc import Mapping

_NAME = re.compile(r"CODEC_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)")
_PORT = re.compile(r"CODEC_(\w+_)?PORT")
_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")


def service_links(environment: Mapping[str, str]) -> list[str]:
    """Return the sorted names of the CODEC_* variables in `environment` that are Kubernetes service links."""
    return sorted(
        name
        for name, value in environment.items()
        if _NAME.fullmatch(name) or (_PORT.fullmatch(name) and _ADDRESS.fullmatch(value))
    )
