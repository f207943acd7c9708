"""Creation of the models of a gateway from the description that one of its upstream servers returns."""

from typing import TYPE_CHECKING

from codec_grpc.messages import acceleration_from_message, model_from_message, pixel_checks_from_message
from codec_grpc.remote_engine import RemoteEngine
from codec_grpc.remote_vae import RemoteVae
from codec_grpc.upstream_calls import UpstreamCalls
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.latent_rgb import LatentRgb
from core.decoder_file import find_decoder
from core.served import ModelInstance

if TYPE_CHECKING:  # the generated module defines the class only in its type stubs
    from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceAsyncStub

RPC_TIMEOUT_S = 10.0


async def load_models(
    stub: "LatentServiceAsyncStub", info: pb.GetServerInfoResponse, calls: UpstreamCalls
) -> list[ModelInstance]:
    """Return the models that `info` describes. `stub` downloads the latent-space maps of the models.

    `calls` are used to run the models on the upstream servers.
    """
    # Servers that do not know the field `models` have one model, described by `model` and `device`.
    descriptions = list(info.models) or [pb.ServedModel(model=info.model, device=info.device)]
    instances = []
    for description in descriptions:
        model = model_from_message(description.model)
        request = pb.GetLatentMapRequest(latent_space=model.latent_space)
        response = await stub.GetLatentMap(request, timeout=RPC_TIMEOUT_S)
        bundle = LatentMapBundle.from_parts(response.document, response.assets)
        checks = pixel_checks_from_message(description)
        generates = description.generates or not description.HasField("generates")
        engine = RemoteEngine(calls, bundle.hash) if generates else None
        vae = RemoteVae(calls) if description.decodes and description.encodes else None
        matrix = LatentRgb.parse(response.latent_rgb) if response.HasField("latent_rgb") else None
        acceleration = acceleration_from_message(description)
        instances.append(
            ModelInstance(
                model,
                bundle,
                engine,
                description.device,
                checks,
                vae,
                latent_rgb=matrix,
                acceleration=acceleration,
                # Exported decoders are too large for a message; the embedded model's is installed with a gateway too.
                decoder=find_decoder(None, bundle),
            )
        )
    return instances
