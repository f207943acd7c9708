"""What a client of latent streams imports. Needs no torch, until pixels are asked for."""

from codec_client.images import PixelDecoder, decode_to_frames, decode_to_images
from codec_client.maps import fetch_map
from codec_client.stream_decoder import LatentStreamDecoder

__all__ = ["LatentStreamDecoder", "PixelDecoder", "decode_to_frames", "decode_to_images", "fetch_map"]
