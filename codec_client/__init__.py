"""Python client for Codec latent streams, over HTTP and gRPC.

The shortest useful program generates the latents of an image, and decodes the latents to pixels:

    from codec_client import HttpClient, decode_to_images

    with HttpClient("http://127.0.0.1:8080").blocking() as client:
        generation = client.generate("a snowy mountain at dusk", pipeline="int8", seed=7)
        latent_map = client.latent_map(generation.map_hash).latent_map

    decode_to_images(generation.latents, latent_map)[0].save("mountain.png")

Receiving latents does not require torch. Decoding latents to pixels requires torch and diffusers (the extra `server`).
All errors are subclasses of codec_wire.errors.CodecError. See docs/client.md for streaming, progress and TLS.
"""

from typing import TYPE_CHECKING

from codec_wire.lazy_names import lazy_names

if TYPE_CHECKING:
    from codec_client.blocking import BlockingClient, BlockingStream
    from codec_client.cache import default_cache_dir
    from codec_client.client import LatentClient
    from codec_client.errors import ServerUnreachable, UnexpectedAnswer
    from codec_client.grpc_client import GrpcClient
    from codec_client.http_client import HttpClient
    from codec_client.images import PixelDecoder, decode_to_frames, decode_to_images
    from codec_client.latent_rgb import latent_to_rgb
    from codec_client.maps import fetch_map, fetch_maps
    from codec_client.results import DecodedPixels, Generation, ServedModel
    from codec_client.stream import LatentStream, PreviewLatents, Progress
    from codec_client.stream_decoder import LatentStreamDecoder

__all__ = [
    "BlockingClient",
    "BlockingStream",
    "DecodedPixels",
    "Generation",
    "GrpcClient",
    "HttpClient",
    "LatentClient",
    "LatentStream",
    "LatentStreamDecoder",
    "PixelDecoder",
    "PreviewLatents",
    "Progress",
    "ServedModel",
    "ServerUnreachable",
    "UnexpectedAnswer",
    "decode_to_frames",
    "decode_to_images",
    "default_cache_dir",
    "fetch_map",
    "fetch_maps",
    "latent_to_rgb",
]

# The HTTP client does not need gRPC, the gRPC client does not need aiohttp, and the errors need neither.
__getattr__ = lazy_names(
    __name__,
    {
        "BlockingClient": "blocking",
        "BlockingStream": "blocking",
        "DecodedPixels": "results",
        "Generation": "results",
        "GrpcClient": "grpc_client",
        "HttpClient": "http_client",
        "LatentClient": "client",
        "LatentStream": "stream",
        "LatentStreamDecoder": "stream_decoder",
        "PixelDecoder": "images",
        "PreviewLatents": "stream",
        "Progress": "stream",
        "ServedModel": "results",
        "ServerUnreachable": "errors",
        "UnexpectedAnswer": "errors",
        "decode_to_frames": "images",
        "decode_to_images": "images",
        "default_cache_dir": "cache",
        "fetch_map": "maps",
        "fetch_maps": "maps",
        "latent_to_rgb": "latent_rgb",
    },
)
