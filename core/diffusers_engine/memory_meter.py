"""Measurement of the peak memory of one stage of a generation."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core.diffusers_engine.checkpoints import is_compiled
from core.diffusers_engine.loader import LoadedModel


class Peak:
    """The peak memory during a measurement, minus the memory in use before the measurement, in bytes."""

    def __init__(self) -> None:
        self.size = 0


def can_measure(model: LoadedModel) -> bool:
    """Return whether the memory of `model` can be measured.

    On a CPU, a model with compiled modules cannot be measured.
    """
    if model.device.torch_device.type == "cuda":
        return True
    parts = model.pipeline.components.values()
    return not any(is_compiled(part) for part in parts if isinstance(part, torch.nn.Module))


@contextmanager
def measure_peak(device: torch.device) -> Iterator[Peak]:
    """Measure the peak memory of the tensors that this thread allocates on `device` inside the `with` block.

    On a GPU, the memory is counted by torch's allocator. On the CPU, the bytes of all results of torch operations are
    counted, because no other method can measure the memory. The CPU allocator of torch does not count memory, and
    torch.profiler takes seconds. A small generation does not change the resident size of the process, because freed
    memory is reused.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.size = torch.cuda.max_memory_allocated(device) - before
        return
    with _StorageCounter(peak):
        yield peak


class _StorageCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counter of the bytes in the tensor storages that torch operations create.

    The bytes of a storage are counted until the storage is freed.
    """

    def __init__(self, peak: Peak) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._peak = peak
        self._size = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the torch operation `func` and count the bytes in the storages of the resulting tensors."""
        inputs = _tensors((args, kwargs))
        for tensor in inputs:
            self._add(tensor, is_new=False)  # it existed before the measurement if it is not known
        result = func(*args, **(kwargs or {}))
        outputs = _tensors(result)
        for tensor in outputs:
            self._add(tensor, is_new=True)
        # oneDNN copies the input and the result of a convolution to its own layout, which needs additional memory.
        copies = inputs[:1] + outputs if func is torch.ops.aten.convolution.default else []
        self._peak.size = max(self._peak.size, self._size + sum(tensor.nbytes for tensor in copies))
        return result

    def _add(self, tensor: Tensor, *, is_new: bool) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._known:
            return
        size = storage.nbytes() if is_new else 0
        self._size += size

        def remove(_: object) -> None:
            self._known.pop(key, None)
            self._size -= size

        self._known[key] = weakref.ref(storage, remove)


def _tensors(tree: Any) -> list[Tensor]:
    """Return the plain tensors in `tree`.

    An instance of a subclass of Tensor, such as a quantized weight, is omitted, because the instance has no storage of
    its own.
    """
    return [leaf for leaf in tree_leaves(tree) if type(leaf) in (Tensor, torch.nn.Parameter)]
