"""Selection of the fields of a generation request that a client sends to a server."""

from typing import Any

from codec_wire.request import GenerationRequest


def explicit_fields(request: GenerationRequest) -> dict[str, Any]:
    """Return the explicitly set fields of `request`, as a dictionary with the wire names as keys.

    The wire name of a field is the name of the field in requests to the server. The server uses default values for the
    fields that were not set.
    """
    fields = request.model_dump(exclude_unset=True, by_alias=True)
    return {name: value for name, value in fields.items() if value is not None}
