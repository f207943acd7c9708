"""Routes of the latent service."""

from codec_http import latents
from codec_http.pixel_negotiation import IMAGE_MEDIA_TYPES, VIDEO_MEDIA_TYPES
from codec_http.response_headers import DOCUMENTED_HEADERS
from codec_http.route import Route
from codec_wire import errors
from codec_wire.http import DECODE_PATH, MEDIA_TYPES

LATENTS = "Latents"
"""Tag: the section of the documentation page."""

_ERRORS = (
    errors.InvalidRequest,
    errors.NotFound,
    errors.NotAcceptable,
    errors.MapMismatch,
    errors.TooLarge,
    errors.UnsupportedModality,
    errors.Overloaded,
    errors.CodecError,
    errors.NotReady,
    errors.OutOfMemory,
    errors.DeadlineExceeded,
)

LATENT_ROUTES = (
    Route(
        "POST",
        DECODE_PATH,
        latents.decode,
        LATENTS,
        "Decode latents",
        "Decodes a latent stream, the body of a generation response, to the pixels that the server would have rendered."
        " The body may have any pipeline and any Content-Encoding of a response; zstd may use a dictionary of the"
        " latent-space map. Accept selects the format: PNG, JPEG, WebP or an array for an image, MP4 or an array for a"
        " video. The array is a .npy file of uint8 [frames, height, width, 3]. An invalid stream is rejected with the"
        " position of the fault in bytes.",
        {200: dict.fromkeys((*IMAGE_MEDIA_TYPES, *VIDEO_MEDIA_TYPES))},
        files=tuple(MEDIA_TYPES),
        query=latents.DECODE_PARAMETERS,
        headers={name: DOCUMENTED_HEADERS[name] for name in latents.DECODE_HEADERS},
        errors=_ERRORS,
    ),
)
