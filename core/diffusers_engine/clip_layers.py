"""Access to the layers of CLIP text encoders for `clip_skip` with newer versions of transformers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def with_text_model(pipeline: Any) -> Iterator[None]:
    """In the `with` block, give the text encoder of `pipeline` the attribute `text_model` if it has none.

    With `clip_skip`, the classes of Stable Diffusion 1 apply `text_encoder.text_model.final_layer_norm`. Since
    transformers 5, a CLIPTextModel has its layers as own attributes.
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
