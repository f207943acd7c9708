"""Caches of diffusers and of cache-dit that reuse results of earlier sampling steps."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from codec_wire.errors import InvalidSettings
from core.diffusers_engine.extra_packages import require_package
from core.setting_field import PREFIX

DEFAULT_STEPS = 25
"""Number of sampling steps that is assumed when a cache is enabled for the first time."""
FLUX = ("FluxPipeline", "FluxImg2ImgPipeline")
_ONE_PASS = (*FLUX, "LTXPipeline", "LTXImageToVideoPipeline", "CogVideoXPipeline", "HunyuanVideoPipeline")
"""Pipeline classes that run the transformer once per step.

The caches FasterCache and PyramidAttentionBroadcast support only the classes in _ONE_PASS. FasterCache and
PyramidAttentionBroadcast store the state of only one run per step.
"""
CACHE_DIT = "cache_dit"
"""Name of the cache from the package cache-dit.

The cache of cache-dit supports other transformers than the caches of diffusers.
"""
STEP_CACHES: Mapping[str, Sequence[str] | None] = {
    CACHE_DIT: None,
    "faster": _ONE_PASS,
    "first_block": None,
    "mag": FLUX,  # the only model for which diffusers has the measured ratios
    "pyramid_attention": _ONE_PASS,
    "taylorseer": None,
}
"""Pipeline classes that each cache supports, as a dictionary by the name of the cache.

The value None means that the transformer class, not the pipeline class, determines whether the cache can be enabled.
"""


class StepCache:
    """One of the step caches in STEP_CACHES, enabled in the transformers of a model.

    Use a cache only on the device thread. A cache has the default parameters of diffusers, except for parameters whose
    defaults do not work.
    """

    def __init__(self, name: str, transformers: Sequence[Any]) -> None:
        """Enable the cache. Raises InvalidSettings if diffusers cannot apply the cache to a transformer."""
        if name == CACHE_DIT:
            require_package("cache_dit", "step_cache", name)
        self._name = name
        self._transformers = transformers
        self._pipeline: Any = None
        self._steps = 0
        try:
            self._enable(DEFAULT_STEPS)
        except Exception as error:  # diffusers raises whatever its indices and look-ups do
            classes = ", ".join(type(one).__name__ for one in transformers)
            raise InvalidSettings(
                f"{PREFIX}STEP_CACHE (--step-cache): the step cache {name} does not work with {classes} ({error}); "
                "choose another value"
            ) from None

    def begin(self, pipeline: Any, steps: int) -> None:
        """Reset the cache. Call this method before `pipeline` generates with `steps` steps.

        The method `begin` resets the cache, because a cancelled generation does not reset the cache.
        """
        from diffusers.hooks import HookRegistry  # noqa: PLC0415 - takes seconds

        self._pipeline = pipeline
        if self._name == CACHE_DIT:
            self._refresh(steps)
            return
        if self._name == "mag" and steps != self._steps:
            self._enable(steps)
        for transformer in self._transformers:
            HookRegistry.check_if_exists_or_initialize(transformer).reset_stateful_hooks(recurse=True)

    def _refresh(self, steps: int) -> None:
        import cache_dit  # noqa: PLC0415 - an extra

        for transformer in self._transformers:
            cache_dit.refresh_context(transformer, num_inference_steps=steps)

    def _enable(self, steps: int) -> None:
        if self._name == CACHE_DIT:
            self._enable_cache_dit()
            return
        for transformer in self._transformers:
            if transformer.is_cache_enabled:
                transformer.disable_cache()
            transformer.enable_cache(self._config(transformer, steps))
        self._steps = steps

    def _enable_cache_dit(self) -> None:
        # The level is read when the package is imported. It has no other setting for its messages.
        os.environ.setdefault("CACHE_DIT_LOG_LEVEL", "ERROR")
        import cache_dit  # noqa: PLC0415 - an extra

        for transformer in self._transformers:
            cache_dit.enable_cache(transformer, cache_config=cache_dit.DBCacheConfig())

    def _config(self, transformer: Any, steps: int) -> Any:
        configs: Mapping[str, Callable[[Any, int], Any]] = {
            "faster": self._faster,
            "first_block": self._first_block,
            "mag": self._mag,
            "pyramid_attention": self._pyramid_attention,
            "taylorseer": self._taylorseer,
        }
        return configs[self._name](transformer, steps)

    def _timestep(self) -> int:
        return int(self._pipeline.current_timestep)

    def _faster(self, _transformer: Any, _steps: int) -> Any:
        from diffusers import FasterCacheConfig  # noqa: PLC0415

        return FasterCacheConfig(
            current_timestep_callback=self._timestep,
            attention_weight_callback=lambda _module: 0.5,
            # The approximation of the unconditional prediction depends on the layout of the output.
            is_guidance_distilled=True,
        )

    def _first_block(self, _transformer: Any, _steps: int) -> Any:
        from diffusers import FirstBlockCacheConfig  # noqa: PLC0415

        return FirstBlockCacheConfig()

    def _mag(self, _transformer: Any, steps: int) -> Any:
        from diffusers import MagCacheConfig  # noqa: PLC0415
        from diffusers.hooks.mag_cache import FLUX_MAG_RATIOS  # noqa: PLC0415

        return MagCacheConfig(num_inference_steps=steps, mag_ratios=FLUX_MAG_RATIOS)

    def _pyramid_attention(self, _transformer: Any, _steps: int) -> Any:
        from diffusers import PyramidAttentionBroadcastConfig  # noqa: PLC0415

        return PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2, current_timestep_callback=self._timestep
        )

    def _taylorseer(self, transformer: Any, _steps: int) -> Any:
        from diffusers import TaylorSeerCacheConfig  # noqa: PLC0415

        return TaylorSeerCacheConfig(taylor_factors_dtype=transformer.dtype)
