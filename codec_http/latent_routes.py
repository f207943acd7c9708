"""Routes of the endpoints that decode and encode latents."""

from codec_http import latent_decoding, latent_encoding, remote_vae
from codec_http.pixel_negotiation import IMAGE_MEDIA_TYPES, VIDEO_MEDIA_TYPES
from codec_http.remote_vae import TENSOR_MEDIA_TYPE
from codec_http.response_headers import DOCUMENTED_HEADERS
from codec_http.route import JOB_ERRORS, Route
from codec_wire.http import (
    DECODE_PATH,
    ENCODE_PATH,
    GENERATION_MS_HEADER,
    HF_DECODE_PATH,
    HF_ENCODE_PATH,
    MEDIA_TYPES,
    MODE_HEADER,
    PARAMETERS_HEADER,
    PROMPT_TRUNCATED_HEADER,
    SEED_HEADER,
)

LATENTS, REMOTE_VAE = "Latents", "Remote VAE (Hugging Face)"
"""OpenAPI tags of the endpoints. Each tag is a section of the documentation page."""

_GENERATION_HEADERS = (SEED_HEADER, PROMPT_TRUNCATED_HEADER, PARAMETERS_HEADER, MODE_HEADER, GENERATION_MS_HEADER)
"""Response headers that only responses of the generation endpoints have."""

LATENT_ROUTES = (
    Route(
        "POST",
        DECODE_PATH,
        latent_decoding.decode,
        LATENTS,
        "Decode latents",
        "Decodes a latent stream, e.g. the body of a generation response, to pixels. The pixels equal those that "
        "the server would have rendered. The stream may have every pipeline and every Content-Encoding of a "
        "generation response, including zstd with a dictionary of the latent-space map. The Accept header "
        "selects the format: PNG, JPEG, WebP or an array for an image; MP4 or an array for a video. The array is "
        "a .npy file of uint8 [frames, height, width, 3]. The error message about an invalid stream contains the "
        "byte offset of the error.",
        {200: dict.fromkeys((*IMAGE_MEDIA_TYPES, *VIDEO_MEDIA_TYPES))},
        files=tuple(MEDIA_TYPES),
        query=latent_decoding.DECODE_PARAMETERS,
        headers={name: DOCUMENTED_HEADERS[name] for name in latent_decoding.DECODE_HEADERS},
        errors=JOB_ERRORS,
    ),
    Route(
        "POST",
        ENCODE_PATH,
        latent_encoding.encode,
        LATENTS,
        "Encode an image or a video",
        "Encodes a PNG, JPEG or WebP image, or an MP4 video, to a latent stream like that of a generation. The "
        "same file and parameters always give the same latents. Without `seed`, the latents are the mode of the "
        "VAE's distribution. The Content-Type of the request is ignored.",
        {200: dict.fromkeys(MEDIA_TYPES)},
        files=("image/png", "image/jpeg", "image/webp", "video/mp4"),
        query=latent_encoding.ENCODE_PARAMETERS,
        headers={name: text for name, text in DOCUMENTED_HEADERS.items() if name not in _GENERATION_HEADERS},
        errors=JOB_ERRORS,
    ),
    Route(
        "POST",
        HF_DECODE_PATH,
        remote_vae.decode,
        REMOTE_VAE,
        "Decode a tensor",
        "Implements the protocol of `diffusers.utils.remote_utils.remote_decode`. The body is a tensor of "
        "latents, as little-endian values in C order. The response is the output of the VAE as an image or video "
        "file, or as a tensor whose shape and dtype are in the response headers `shape` and `dtype`.",
        {200: dict.fromkeys(("image/jpeg", "image/png", "video/mp4", TENSOR_MEDIA_TYPE))},
        files=(TENSOR_MEDIA_TYPE,),
        query=remote_vae.DECODE_PARAMETERS,
        errors=JOB_ERRORS,
    ),
    Route(
        "POST",
        HF_ENCODE_PATH,
        remote_vae.encode,
        REMOTE_VAE,
        "Encode an image or a tensor",
        "Implements the protocol of `diffusers.utils.remote_utils.remote_encode`. The body is a PNG, JPEG or "
        "WebP file, or a tensor of pixels. The response is a tensor with the latents, which are the mode of the "
        "VAE's distribution. The response headers `shape` and `dtype` contain the shape and dtype of the tensor.",
        {200: {TENSOR_MEDIA_TYPE: None}},
        files=("image/png", "image/jpeg", "image/webp", TENSOR_MEDIA_TYPE),
        query=remote_vae.ENCODE_PARAMETERS,
        errors=JOB_ERRORS,
    ),
)
