"""The switches of fast mode. Each switch may change the pixels of a generation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from pydantic import ValidationError, create_model

from codec_wire.errors import InvalidSettings, truncated_repr
from core.guidance_interval import ALL_STEPS
from core.setting_field import PREFIX
from core.settings import Settings


class Mode(StrEnum):
    """The mode in which a model generates."""

    REFERENCE = "reference"
    FAST = "fast"


@dataclass(frozen=True, slots=True)
class Switches:
    """The values of all switches of fast mode. By default, every switch is off, as in reference mode."""

    channels_last: bool = False
    compile: str = "none"
    fused_qkv: bool = False
    attention_backend: str | None = None
    step_cache: str = "none"
    guidance_interval: str = ALL_STEPS
    quantization: str = "none"
    gguf: str | None = None
    offload: str = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False
    dtype: str = "auto"
    batch_size: int = 1
    """Maximum number of generations that are sampled together."""
    required: frozenset[str] = field(default=frozenset(), compare=False)
    """Names of the switches that the model must support.

    An error is raised if the model does not support a switch in `required`.

    A switch that is not in `required` is turned off if the model does not support the switch.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The switches that are on, such as ("channels_last", "compile=full")."""
        values = ((one.name, getattr(self, one.name)) for one in fields(self) if one.compare)
        return tuple(name if value is True else f"{name}={value}" for name, value in values if value != _OFF[name])

    @property
    def has_quantized_weights(self) -> bool:
        """Whether the weights of the denoiser are quantized."""
        return self.quantization != "none" or self.gguf is not None

    def without(self, name: str) -> "Switches":
        """Return a copy in which the switch `name` is off."""
        return replace(self, **{name: _OFF[name]})


_OFF: Mapping[str, Any] = {one.name: one.default for one in fields(Switches) if one.compare}
"""The value of each switch in reference mode."""
UNBATCHED_STEP_CACHES = ("cache_dit", "first_block")
"""Step caches that decide for a whole batch which blocks to skip.

With a step cache that decides for a whole batch, one generation in a batch would change the results of the others.
"""
FAST_DEFAULTS: Mapping[str, Any] = {
    "channels_last": True,
    "compile": "auto",
    "guidance_interval": "0-0.04/0.12-0.68/0.84-1",
}
"""The switches that are on in fast mode unless the settings determine otherwise."""


def switches_of(settings: Settings) -> Switches:
    """Return the switches that `settings` select.

    In reference mode, `dtype` is not a switch, because the reference images are generated with the dtype in `settings`.
    Raises InvalidSettings if a switch or a batch size above 1 is set in reference mode. The InvalidSettings names the
    setting that is not allowed in reference mode. Raises InvalidSettings if a batch size above 1 is combined with one
    of UNBATCHED_STEP_CACHES.
    """
    given = {name: value for name in _OFF if (value := getattr(settings, name)) is not None}
    if given["batch_size"] == 1:
        del given["batch_size"]
    if Mode(settings.mode) is Mode.FAST:
        chosen = Switches(**{**FAST_DEFAULTS, **given}, required=frozenset(given))
        if chosen.batch_size > 1 and chosen.step_cache in UNBATCHED_STEP_CACHES:
            raise InvalidSettings(
                f"{PREFIX}BATCH_SIZE (--batch-size): must be 1 with the step cache {chosen.step_cache}, got "
                f"{chosen.batch_size}; this cache skips the same blocks for all generations in a batch"
            )
        return chosen
    del given["dtype"]
    if given:
        name, value = next(iter(given.items()))
        raise InvalidSettings(
            f"{PREFIX}{name.upper()} ({_flag(name)}): got {truncated_repr(value)} in reference mode, but this setting "
            f"changes the pixels and is only allowed with {PREFIX}MODE=fast (--mode fast)"
        )
    return Switches()


def with_switches(settings: Settings, switches: Switches) -> Settings:
    """Return a copy of `settings` that selects fast mode with exactly `switches`."""
    return settings.model_copy(update={"mode": Mode.FAST.value, **{name: getattr(switches, name) for name in _OFF}})


def parse_switches(text: str) -> Switches:
    """Return the switches in `text`, such as "channels_last+compile=full".

    The model must support all switches in `text`.

    Raises InvalidSettings if a switch is unknown or the value of a switch is not valid. For an unknown switch, the
    error names the allowed switches.
    """
    given: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in text.split("+"))):
        name, equals, value = item.partition("=")
        if name not in _OFF:
            raise InvalidSettings(f"{truncated_repr(name)} is not a switch; the switches are {', '.join(_OFF)}")
        if not equals and not isinstance(_OFF[name], bool):
            raise InvalidSettings(f"the switch {name} needs a value: {name}=VALUE")
        given[name] = value if equals else True
    try:
        valid = _VALIDATOR(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidSettings(f"{first['loc'][0]}: {first['msg']}, got {truncated_repr(first['input'])}") from None
    return Switches(**{name: getattr(valid, name) for name in given}, required=frozenset(given))


_VALIDATOR: Any = create_model(
    "_Switches",
    **{name: (Settings.model_fields[name].annotation, Settings.model_fields[name]) for name in _OFF},  # type: ignore[call-overload]
)
"""Pydantic model of the settings that are switches. The Pydantic model does not read environment variables."""


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
