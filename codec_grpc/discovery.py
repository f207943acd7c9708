"""The responses of the gRPC methods that describe a server: GetServerInfo and GetLatentMap."""

from codec_grpc.configuration import configuration_of_service
from codec_grpc.messages import served_model_to_message, state_to_message
from codec_wire.errors import NotFound
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.version import CODEC_VERSION, SERVER_VERSION
from core.service import LatentService


def server_info(service: LatentService) -> pb.GetServerInfoResponse:
    """Return the state, models and software versions of the server, even while the server is loading models."""
    provenance = service.provenance
    models = [served_model_to_message(instance) for instance in service.models]
    default = models[0] if models else None
    return pb.GetServerInfoResponse(
        server_version=SERVER_VERSION,
        codec_version=CODEC_VERSION,
        state=state_to_message(service.lifecycle.state),
        # Clients that do not know the field `models` read the default model from these three fields.
        model=None if default is None else default.model,
        latent_map_hash=None if default is None else default.latent_map_hash,
        device="" if default is None else default.device,
        versions=provenance.versions,
        pin_differences=provenance.pin_differences,
        models=models,
        image_digest=provenance.image_digest,
        configuration_hash=configuration_of_service(service),
    )


def latent_map(service: LatentService, request: pb.GetLatentMapRequest) -> pb.GetLatentMapResponse:
    """Return a latent-space map and the files to which the map refers.

    Raises NotFound if no model has the requested latent space, and NotReady if no model is loaded.
    """
    latent_space = request.latent_space if request.HasField("latent_space") else None
    bundle = service.models.require_map(latent_space)
    try:
        latent_rgb = service.models.require_latent_rgb(latent_space).serialize()
    except NotFound:
        latent_rgb = None
    return pb.GetLatentMapResponse(
        hash=bundle.hash, document=bundle.document, assets=bundle.assets, latent_rgb=latent_rgb
    )
