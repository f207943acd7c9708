"""LoRA weights that requests add to the pipelines of a model. Recently used LoRA weights stay loaded."""

import logging
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch

from codec_pixels.device_thread import report_progress
from codec_wire.errors import InvalidRequest
from codec_wire.first_line import first_line
from codec_wire.request_lora import RequestLora
from core.diffusers_engine.lora_fit import require_plain_lora
from core.diffusers_engine.lora_loading import load_adapter
from core.diffusers_engine.precision import DENOISERS
from core.diffusers_engine.prompt_cache import PromptCache
from core.lora_directory import LoraDirectory, LoraFile
from core.lora_limits import unknown_lora
from core.working_memory import MIB

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Adapter:
    """LoRA weights that are loaded into the components of `pipeline`. The PEFT adapter has the name `name`."""

    name: str
    pipeline: Any
    nbytes: int
    changes_text: bool
    """Whether the LoRA weights change a text encoder."""


_Key = tuple[tuple[int, ...], LoraFile]
"""Key of an adapter: the ids of the components that can have LoRA weights, and the file of the LoRA weights."""


class LoraAdapters:
    """The LoRA weights of requests for one model. Use an object of this class only on the device thread.

    The LoRA weights are PEFT adapters that the diffusers method `load_lora_weights` has loaded. The LoRA weights of a
    request are not merged into the weights of the model. Outside of a `with` block of the method `applied`, all
    adapters are disabled. The layers of the model then compute exactly the same values as without adapters. If the
    adapters would exceed the size limit of the LoRA directory, the least recently used adapters are deleted.
    """

    def __init__(self, directory: LoraDirectory, prompts: PromptCache, *, allow_partial: bool = False) -> None:
        self._directory = directory
        self._prompts = prompts
        self._allow_partial = allow_partial
        self._adapters: OrderedDict[_Key, _Adapter] = OrderedDict()
        self._pipelines: dict[tuple[int, ...], Any] = {}
        """A dictionary with one pipeline for each group of components that has loaded LoRA weights.

        The keys are the ids of the components in the group.
        """
        self._numbers = count()

    @property
    def names(self) -> list[str]:
        """The names of the loaded LoRA weights, with the least recently used ones first."""
        return [file.name for _, file in self._adapters]

    @property
    def nbytes(self) -> int:
        """The size of all loaded LoRA weights in bytes."""
        return sum(adapter.nbytes for adapter in self._adapters.values())

    @contextmanager
    def applied(self, pipeline: Any, loras: Sequence[RequestLora]) -> Iterator[None]:
        """Apply `loras` to the components of `pipeline` in the `with` block.

        `pipeline` is one of the pipelines of the model. Raises InvalidRequest if LoRA weights are missing, broken or
        too large, or do not fit the model. The InvalidRequest names the entry of the request field `loras` that caused
        the error.
        """
        files = [self._find(index, lora.name) for index, lora in enumerate(loras)]
        try:
            adapters = self._load_all(pipeline, files)
            pipeline.enable_lora()
            pipeline.set_adapters([adapter.name for adapter in adapters], [lora.scale for lora in loras])
            self._prompts.weights = tuple(
                (file, lora.scale)
                for file, lora, adapter in zip(files, loras, adapters, strict=True)
                if adapter.changes_text
            )
            yield
        finally:
            self._prompts.weights = ()
            pipeline.disable_lora()

    def _find(self, index: int, name: str) -> LoraFile:
        file = self._directory.find(name)
        if file is None:
            raise unknown_lora(index, name, self._directory.names())
        return file

    def _load_all(self, pipeline: Any, files: Sequence[LoraFile]) -> list[_Adapter]:
        """Load the files in `files` that are not loaded yet into `pipeline`, and return the adapters of all `files`."""
        components = tuple(id(getattr(pipeline, name, None)) for name in pipeline._lora_loadable_modules)
        self._pipelines.setdefault(components, pipeline)
        needed = {(components, file): index for index, file in enumerate(files)}
        replaced = {(found, file.path) for found, file in needed}
        for key in [key for key in self._adapters if (key[0], key[1].path) in replaced and key not in needed]:
            self._delete(key)
        for key, index in needed.items():
            if key not in self._adapters:
                missing = sum(file.size for found, file in needed if (found, file) not in self._adapters)
                self._make_room(needed, missing)
                self._adapters[key] = self._load(pipeline, key[1], index)
            self._adapters.move_to_end(key)
        self._make_room(needed, 0)
        return [self._adapters[key] for key in needed]

    def _make_room(self, needed: Mapping[_Key, int], more: int) -> None:
        """Delete adapters until there is space for `more` bytes. The adapters with the keys `needed` are not deleted.

        If the adapters of the request alone are too large, these adapters are deleted and InvalidRequest is raised.
        """
        limit = self._directory.max_bytes
        own = [key for key in self._adapters if key in needed]
        size = more + sum(self._adapters[key].nbytes for key in own)
        if size > limit:
            for key in own:
                self._delete(key)
            raise InvalidRequest(
                "loras",
                f"must need at most {limit / MIB:.1f} MiB of memory together on this server (CODEC_LORA_CACHE_MIB), "
                f"got LoRA weights of {size / MIB:.1f} MiB",
            )
        for key in [key for key in self._adapters if key not in needed]:
            if self.nbytes + more <= limit:
                return
            self._delete(key)

    def _load(self, pipeline: Any, file: LoraFile, index: int) -> _Adapter:
        """Load `file` into the components of `pipeline`.

        `index` is the index of the LoRA file's entry in the request field `loras`.
        """
        report_progress()
        name = f"request_{next(self._numbers)}"
        try:
            load_adapter(
                pipeline,
                name,
                file.path,
                label=file.name,
                allow_pickle=False,
                allow_partial=self._allow_partial,
                check=lambda weights: require_plain_lora(pipeline, weights),
            )
        except BaseException as error:
            self._remove(pipeline, name)
            if isinstance(error, MemoryError | torch.OutOfMemoryError) or not isinstance(error, Exception):
                raise
            log.warning("cannot load the LoRA weights %s: %s", file.path, error)
            reason = first_line(error).replace(str(file.path), file.path.name).replace(str(self._directory.path), "")
            raise InvalidRequest(
                f"loras[{index}].name", f"{file.name!r} cannot be applied to {type(pipeline).__name__}: {reason}"
            ) from None
        nbytes, changes_text = 0, False
        for component, weight in _weights_of(pipeline, name):
            if weight.device.type == "cpu":  # the weight is a part of the mapped file, which may be overwritten
                weight.data = weight.data.clone()
            nbytes += weight.nbytes
            changes_text = changes_text or component not in DENOISERS
        log.info("loaded the LoRA weights %s (%.1f MiB)", file.path, nbytes / MIB)
        return _Adapter(name, pipeline, nbytes, changes_text)

    def _delete(self, key: _Key) -> None:
        adapter = self._adapters.pop(key)
        self._remove(adapter.pipeline, adapter.name)
        log.info("unloaded the LoRA weights %s", key[1].path)

    def _remove(self, pipeline: Any, name: str) -> None:
        """Delete the adapter `name` from each component of `pipeline` that has loaded the adapter."""
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            pipeline.delete_adapters(name)
        if not self._adapters:
            for one in self._pipelines.values():  # restores the layers that PEFT has wrapped
                one.unload_lora_weights()


def _weights_of(pipeline: Any, adapter: str) -> Iterator[tuple[str, Any]]:
    """Yield (name of the component, weight) for each weight of the adapter `adapter` of `pipeline`."""
    for component in pipeline._lora_loadable_modules:
        module = getattr(pipeline, component, None)
        if module is not None:
            parts = ((name.split("."), weight) for name, weight in module.named_parameters())
            yield from ((component, weight) for path, weight in parts if adapter in path)
