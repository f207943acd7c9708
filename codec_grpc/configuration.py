"""What determines the bytes of a server's responses, by which a gateway compares its servers."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from codec_grpc.messages import served_model_to_message
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.service import LatentService

LATENT_SERVICE = pb.DESCRIPTOR.services_by_name["LatentService"].full_name


def configuration_hash(models: Iterable[pb.ServedModel], versions: Mapping[str, str]) -> str:
    """Return "sha256:<hex>" of the models with their maps and devices, and the library versions.

    The measured differences of pixels are not part of it, and neither is the version of codec-diffusers.
    """
    compared = pb.GetServerInfoResponse(models=models, versions=versions)
    for model in compared.models:
        model.ClearField("pixel_checks")
    return f"sha256:{hashlib.sha256(compared.SerializeToString(deterministic=True)).hexdigest()}"


def configuration_of_service(service: LatentService) -> str | None:
    """Return the configuration hash of this server; None while no model is loaded."""
    if not len(service.models):
        return None
    return configuration_hash(map(served_model_to_message, service.models), service.provenance.versions)


def configuration_of(info: pb.GetServerInfoResponse) -> str:
    """Return the configuration hash of a described server, also of one that does not report it."""
    return info.configuration_hash or configuration_hash(info.models, info.versions)


def differences(info: pb.GetServerInfoResponse, reference: pb.GetServerInfoResponse) -> Iterator[str]:
    """Yield what differs between the configurations of two described servers, e.g. "torch 2.1 instead of 2.0"."""
    found, expected = _facts(info), _facts(reference)
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            yield f"{name} {found.get(name, '(missing)')} instead of {expected.get(name, '(missing)')}"


def _facts(info: pb.GetServerInfoResponse) -> dict[str, str]:
    """Return {name: value} of what a log line about a configuration contains."""
    facts = dict(info.versions)
    for served in info.models:
        facts[f"latent-space map of {served.model.name}"] = served.latent_map_hash
        facts[f"device of {served.model.name}"] = served.device
        description = pb.ServedModel(model=served.model, decodes=served.decodes, generates=served.generates)
        digest = hashlib.sha256(description.SerializeToString(deterministic=True)).hexdigest()
        facts[f"description of {served.model.name}"] = digest[:_SHORT]
    return facts


_SHORT = 12
"""Hexadecimal digits of a hash that is only compared with another one."""


def health_service(info: pb.GetServerInfoResponse) -> str:
    """Return the health service that reports SERVING only on servers with the configuration of the described one.

    For servers that do not report their configuration, it is the one that reports whether they serve.
    """
    return health_service_of(info.configuration_hash) if info.configuration_hash else LATENT_SERVICE


def health_service_of(configuration: str) -> str:
    """Return the name of the health service for a configuration hash."""
    return f"{LATENT_SERVICE}/{configuration}"
