"""The API key of a client, as it is sent to servers."""

from codec_wire.errors import InvalidSettings


def bearer(api_key: str) -> str:
    """Return the value of the Authorization header, or of the gRPC metadata, that contains `api_key`.

    Raises InvalidSettings if `api_key` contains characters that cannot be sent, such as the line break at the end of a
    file. The message of the error does not contain the key.
    """
    if not (api_key.isascii() and api_key.isprintable()):
        raise InvalidSettings(
            f"api_key must consist of printable ASCII characters, got {len(api_key)} characters, of which some are "
            "line breaks or other characters that are not allowed"
        )
    return f"Bearer {api_key}"
