"""Parser with limited running time for prompts in the syntax of the package compel."""

from collections.abc import Iterator
from functools import cache, lru_cache
from math import isfinite
from threading import Lock
from typing import TYPE_CHECKING, Any

from codec_wire.errors import InvalidRequest, truncated_repr
from codec_wire.request import COMPEL_SYNTAX

if TYPE_CHECKING:
    from compel.prompt_parser import Conjunction

MAX_WEIGHT = 100.0
"""Maximum absolute value of a weight in a prompt."""
MAX_MATCHES = 8_000
"""Maximum number of symbols, words and spaces that the parser matches in one prompt, including repeated matches.

The parser tries several rules at each position of a prompt. A prompt of 600 words needs about 5,000 matches.
"""


class _TooManyMatches(Exception):
    """Raised if a prompt needs more than MAX_MATCHES matches."""


class _BoundedParser:
    """A wrapper of compel's prompt parser that stops parsing a prompt after MAX_MATCHES matches."""

    def __init__(self) -> None:
        import pyparsing  # noqa: PLC0415 - only needed with the extra `weighting`
        from compel.prompt_parser import PromptParser  # noqa: PLC0415 - imports torch

        # Without memoization, the time is exponential in the nesting of a prompt.
        pyparsing.ParserElement.enable_packrat()
        self._parser = PromptParser()
        self._matches = 0
        shared = pyparsing.pyparsing_common.real  # also used by other parsers
        for element in self._parser.conjunction.visit_all():
            if isinstance(element, pyparsing.Token) and element is not shared:
                element.add_parse_action(self._count)
        # compel ignores the text after .and() and after .blend().
        self._parser.conjunction = self._parser.conjunction + pyparsing.StringEnd()
        self._lock = Lock()

    def parse(self, text: str) -> "Conjunction":
        """Return the parts of the prompt `text`.

        If `text` cannot be parsed, raises _TooManyMatches or an exception of the package compel.
        """
        with self._lock:
            self._matches = 0
            return self._parser.parse_conjunction(text)

    def _count(self, _text: str, _position: int, _tokens: Any) -> None:
        self._matches += 1
        if self._matches > MAX_MATCHES:
            raise _TooManyMatches


_parser = cache(_BoundedParser)


@lru_cache(maxsize=64)
def _parsed(parser: _BoundedParser, text: str) -> "Conjunction":
    return parser.parse(text)


def parse_prompt(field: str, text: str) -> "Conjunction":
    """Return the parts of the prompt `text`, which is the value of the request field `field`.

    The results are cached. Raises InvalidRequest if the syntax is not valid or not supported, or if parsing takes too
    many steps.
    """
    parser = _parser()
    try:
        conjunction = _parsed(parser, text)
    except (_TooManyMatches, RecursionError):
        raise InvalidRequest(
            field,
            f"must need at most {MAX_MATCHES} parsing steps with prompt_syntax {COMPEL_SYNTAX}, got a prompt of "
            f"{len(text)} characters that needs more steps; send a shorter or simpler prompt",
        ) from None
    except Exception as error:  # pyparsing and compel raise many classes, e.g. OverflowError for many plus signs
        raise InvalidRequest(
            field,
            f"must have the syntax of {COMPEL_SYNTAX}, got {truncated_repr(text)}. The error of the parser is "
            f"{truncated_repr(str(error))}",
        ) from None
    _require_supported(field, conjunction)
    return conjunction


def flattened_prompts(part: Any) -> list[Any]:
    """Return the texts of `part`, a part of a prompt. A part is a text or a blend of several texts."""
    return list(part.prompts) if hasattr(part, "prompts") else [part]


def _require_supported(field: str, conjunction: "Conjunction") -> None:
    if not conjunction.prompts:
        raise InvalidRequest(field, "must contain text in addition to parentheses, quotes and weights")
    if conjunction.lora_weights:
        raise InvalidRequest(field, "must not contain withLora or useLora, which compel ignores")
    for part in conjunction.prompts:
        for prompt in flattened_prompts(part):
            if prompt.wants_cross_attention_control:
                raise InvalidRequest(field, "must not contain .swap(), which compel ignores")
    for weight in _weights(conjunction):
        if not isfinite(weight) or abs(weight) > MAX_WEIGHT:
            raise InvalidRequest(field, f"must have weights of at most {MAX_WEIGHT:g}, got {weight:g}")
    for part in conjunction.prompts:
        if getattr(part, "normalize_weights", False) and sum(part.weights) == 0:
            raise InvalidRequest(
                field,
                "must have weights in .blend() whose sum is not 0, got weights with the sum 0; to use these weights, "
                "add no_normalize as the last argument of .blend()",
            )


def _weights(conjunction: "Conjunction") -> Iterator[float]:
    yield from conjunction.weights
    for part in conjunction.prompts:
        yield from getattr(part, "weights", ())
        for prompt in flattened_prompts(part):
            yield from (fragment.weight for fragment in prompt.children)
