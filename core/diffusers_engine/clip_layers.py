"""Support for the pipeline argument `clip_skip` with version 5 or later of the package transformers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def with_text_model(pipeline: Any) -> Iterator[None]:
    """Add a missing attribute `text_model` to the text encoder of `pipeline` in the `with` block.

    With `clip_skip`, the pipeline classes of Stable Diffusion 1 apply `text_encoder.text_model.final_layer_norm`. Since
    transformers 5, the layers of a CLIPTextModel are attributes of the CLIPTextModel itself.
    """
    encoder = getattr(pipeline, "text_encoder", None)
    if encoder is None or hasattr(encoder, "text_model") or not hasattr(encoder, "final_layer_norm"):
        yield
        return
    # Not with setattr, which would register the module as a part of itself.
    vars(encoder)["text_model"] = encoder
    try:
        yield
    finally:
        del vars(encoder)["text_model"]
