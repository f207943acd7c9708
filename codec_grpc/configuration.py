"""The configuration of a server, which consists of all properties that determine the bytes of its responses.

A gateway compares the configurations of its upstream servers.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from codec_grpc.messages import served_model_to_message
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.service import LatentService

LATENT_SERVICE = pb.DESCRIPTOR.services_by_name["LatentService"].full_name


def configuration_hash(models: Iterable[pb.ServedModel], versions: Mapping[str, str]) -> str:
    """Return the hash "sha256:<hex>" of a server's configuration.

    The configuration consists of the served `models`, with the map and the device of each model, and of the library
    `versions`. The hash does not depend on measured pixel differences. The hash does not depend on the version of
    codec-diffusers. The hash does not depend on the names of LoRA files, which can be added and removed while a server
    runs.
    """
    compared = pb.GetServerInfoResponse(models=models, versions=versions)
    for model in compared.models:
        model.ClearField("pixel_checks")
        _clear_lora_names(model.model)
        if model.HasField("acceleration"):
            model.acceleration.ClearField("distance")
    return f"sha256:{hashlib.sha256(compared.SerializeToString(deterministic=True)).hexdigest()}"


def configuration_of_service(service: LatentService) -> str | None:
    """Return the configuration hash of the server of `service`, or None while no model is loaded."""
    if not len(service.models):
        return None
    return configuration_hash(map(served_model_to_message, service.models), service.provenance.versions)


def configuration_of(info: pb.GetServerInfoResponse) -> str:
    """Return the configuration hash of the server that `info` describes.

    If the server does not report its hash, the hash is computed from `info`.
    """
    return info.configuration_hash or configuration_hash(info.models, info.versions)


def differences(info: pb.GetServerInfoResponse, reference: pb.GetServerInfoResponse) -> Iterator[str]:
    """Yield a text such as "torch 2.1 instead of 2.0" for each difference between the configurations of two servers."""
    found, expected = _facts(info), _facts(reference)
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            yield f"{name} {found.get(name, '(missing)')} instead of {expected.get(name, '(missing)')}"


def _facts(info: pb.GetServerInfoResponse) -> dict[str, str]:
    """Return the parts of the configuration in `info` as a dictionary of values by name, for log messages."""
    facts = dict(info.versions)
    for served in info.models:
        facts[f"latent-space map of {served.model.name}"] = served.latent_map_hash
        facts[f"device of {served.model.name}"] = served.device
        if served.HasField("acceleration"):
            facts[f"fast mode of {served.model.name}"] = "+".join(served.acceleration.switches) or "on"
        description = pb.ServedModel(model=served.model, decodes=served.decodes, generates=served.generates)
        _clear_lora_names(description.model)
        digest = hashlib.sha256(description.SerializeToString(deterministic=True)).hexdigest()
        facts[f"description of {served.model.name}"] = digest[:_SHORT]
    return facts


def _clear_lora_names(model: pb.ModelInfo) -> None:
    if model.HasField("request_loras"):
        model.request_loras.ClearField("names")


_SHORT = 12
"""Number of hexadecimal digits to which a hash is shortened if the hash is only compared with other hashes."""


def health_service(info: pb.GetServerInfoResponse) -> str:
    """Return the health service name that is common to all servers with the configuration in `info`.

    Servers with another configuration do not report SERVING for the returned name. If `info` contains no configuration,
    return the name that every serving server reports as SERVING.
    """
    return health_service_of(info.configuration_hash) if info.configuration_hash else LATENT_SERVICE


def health_service_of(configuration: str) -> str:
    """Return the health service name of the servers with this configuration hash."""
    return f"{LATENT_SERVICE}/{configuration}"
