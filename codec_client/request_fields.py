"""Selection of the fields of a generation request that a client sends to a server."""

from typing import Any

from codec_wire.request import GenerationRequest


def explicit_fields(request: GenerationRequest) -> dict[str, Any]:
    """Return the fields of `request` that were set explicitly, keyed by their names in requests (wire names).

    The server applies its defaults to fields that were not set.
    """
    fields = request.model_dump(exclude_unset=True, by_alias=True)
    return {name: value for name, value in fields.items() if value is not None}
