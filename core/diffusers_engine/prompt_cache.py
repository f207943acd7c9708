"""Embeddings of recent prompts, so that a repeated prompt does not run the text encoders again."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

MAX_BYTES = 64 * 1024 * 1024
"""Maximum size of a cache in bytes.

A cache of 64 MiB has space for at least 8 prompts of the largest text encoders (512 tokens in fp32).
"""

_PLAIN = (str, int, float, bool, type(None), torch.device, torch.dtype)

Embeddings: TypeAlias = "Tensor | tuple[Any, ...] | list[Any] | None"
"""Return value of `encode_prompt`: a tensor, None, or a (nested) tuple or list of tensors and None."""


class PromptCache:
    """A cache of at most `max_bytes` with the embeddings of the most recent prompts of one model.

    Embeddings depend only on the text, the other arguments of `encode_prompt` and the weights of the text encoders.
    Only the LoRA weights of a request change the weights of the text encoders. The attribute `weights` identifies these
    LoRA weights. The cache returns copies, so that a pipeline cannot change the cached tensors. Use the cache only on
    the device thread.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.hits = 0
        self.nbytes = 0
        self.weights: Hashable = ()
        """The LoRA weights that are applied to the text encoders, and the scales of these LoRA weights."""
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, Embeddings] = OrderedDict()

    def attach(self, pipeline: Any) -> None:
        """Make `pipeline` use this cache if the method `encode_prompt` of `pipeline` is defined in diffusers."""
        method = getattr(type(pipeline), "encode_prompt", None)
        if method is not None and method.__module__.startswith("diffusers."):
            encode = pipeline.encode_prompt

            def encode_prompt(*args: Any, **kwargs: Any) -> Embeddings:
                return self._encode_batch(type(pipeline).__name__, encode, args, kwargs)

            pipeline.encode_prompt = encode_prompt

    def _encode_batch(
        self, name: str, encode: Callable[..., Embeddings], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Embeddings:
        """Return the embeddings of one prompt or of the prompts of a batch.

        Each prompt has its own entry in the cache.
        """
        values = [*args, *kwargs.values()]
        if not any(isinstance(value, list) for value in values):
            return self._encode(name, encode, args, kwargs)
        names = [*list(inspect.signature(encode).parameters)[: len(args)], *kwargs]
        texts = [index for index, value in enumerate(values) if "prompt" in names[index] and isinstance(value, list)]
        each: list[Embeddings] = []
        for row in range(len(values[texts[0]]) if texts else 0):
            single = [value[row] if index in texts else value for index, value in enumerate(values)]
            options = dict(zip(kwargs, single[len(args) :], strict=True))
            each.append(self._encode(name, encode, tuple(single[: len(args)]), options))
            if not _has_one_row(each[-1]):  # a part of the embeddings does not depend on the prompt
                return self._encode(name, encode, args, kwargs)
        # Some pipelines pad the embeddings of several prompts to the length of the longest one.
        if not each or any(_shapes(one) != _shapes(each[0]) for one in each):
            return self._encode(name, encode, args, kwargs)
        merged: Embeddings = _concatenate(each)
        return merged

    def _encode(
        self, name: str, encode: Callable[..., Embeddings], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Embeddings:
        """Return the embeddings that `encode` returns for `args` and `kwargs`.

        `encode` is a method of the pipeline class `name`.
        """
        arguments = (*args, *kwargs.values())
        if not all(_is_plain(value) for value in arguments):
            return encode(*args, **kwargs)
        # The repr distinguishes values that are equal but not the same, such as 1 and True.
        key = (name, len(args), tuple(kwargs), repr(arguments))
        found: Embeddings = self.get(key, lambda: encode(*args, **kwargs))
        return found

    def get(self, key: Hashable, encode: Callable[[], Embeddings]) -> Any:
        """Return a copy of the embeddings with the key `key` for the current `weights`.

        If the embeddings are not in the cache, call `encode` to compute the embeddings.
        """
        key = (self.weights, key)
        if key in self._entries:
            self.hits += 1
            self._entries.move_to_end(key)
            return _copy(self._entries[key])
        embeddings = encode()
        size = _nbytes(embeddings)
        if size is not None and size <= self._max_bytes:
            self._entries[key] = _copy(embeddings)
            self.nbytes += size
            while self.nbytes > self._max_bytes:
                _, oldest = self._entries.popitem(last=False)
                self.nbytes -= _nbytes(oldest) or 0
        return embeddings


def _is_plain(value: object) -> bool:
    """Return whether `repr(value)` contains the complete value, so that `repr(value)` can be part of a cache key."""
    if isinstance(value, dict):
        return all(_is_plain(one) for item in value.items() for one in item)
    return isinstance(value, _PLAIN) or (isinstance(value, list | tuple) and all(_is_plain(one) for one in value))


def _nbytes(embeddings: object) -> int | None:
    """Return the total size in bytes of the tensors in `embeddings`, or None if `embeddings` contains other objects."""
    if embeddings is None:
        return 0
    if isinstance(embeddings, Tensor):
        return embeddings.nbytes
    if type(embeddings) not in (tuple, list):
        return None
    sizes = [_nbytes(one) for one in embeddings]  # type: ignore[attr-defined]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _has_one_row(embeddings: Any) -> bool:
    """Return whether all tensors in `embeddings` have one row.

    Tensors with one row can be concatenated with the tensors of other prompts.
    """
    if isinstance(embeddings, Tensor):
        return embeddings.shape[0] == 1
    return embeddings is None or all(_has_one_row(one) for one in embeddings)


def _shapes(embeddings: Any) -> Any:
    """Return the shapes of all tensors in `embeddings`."""
    if isinstance(embeddings, Tensor):
        return embeddings.shape
    return None if embeddings is None else [_shapes(one) for one in embeddings]


def _concatenate(each: list[Any]) -> Any:
    if each[0] is None:
        return None
    if isinstance(each[0], Tensor):
        return torch.cat(each)
    return type(each[0])(_concatenate(list(parts)) for parts in zip(*each, strict=True))


def _copy(embeddings: Any) -> Any:
    if embeddings is None:
        return None
    if isinstance(embeddings, Tensor):
        return embeddings.clone()
    return type(embeddings)(_copy(one) for one in embeddings)
