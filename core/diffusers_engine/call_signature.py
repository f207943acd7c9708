"""The default values of the arguments of pipeline calls."""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any


def call_defaults(pipeline: Any) -> Mapping[str, Any]:
    """Return a dictionary of default values by argument name, for the method `__call__` of `pipeline`.

    An argument without a default value has the value `inspect.Parameter.empty`.
    """
    return _defaults_of(type(pipeline).__call__)


@lru_cache(maxsize=64)
def _defaults_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the default values of the parameters of `function`.

    The result is cached, because reading the signature takes 0.1 ms.
    """
    parameters = inspect.signature(function).parameters
    return {name: parameter.default for name, parameter in parameters.items()}
