"""Validation of the syntax of prompts against a model, and a limit on the nesting of prompts with weights."""

from codec_wire.errors import InvalidRequest
from codec_wire.request import COMPEL_SYNTAX, PLAIN_SYNTAX, GenerationRequest
from core.model import ModelInfo

MAX_NESTING = 8
"""Maximum depth of parentheses in a prompt with weights. The parser calls itself for each level of parentheses."""


def require_prompt_syntax(request: GenerationRequest, model: ModelInfo) -> str | None:
    """Return the syntax of the prompts of `request`, or None for plain prompts.

    Raises InvalidRequest if `model` does not support the syntax, or if a prompt has too many nested parentheses.
    """
    if request.prompt_syntax in (None, PLAIN_SYNTAX):
        return None
    if request.prompt_syntax not in model.prompt_syntaxes:
        raise InvalidRequest(
            "prompt_syntax",
            f"must be {' or '.join(model.prompt_syntaxes)} for {model.name}, got {request.prompt_syntax}. "
            f"{COMPEL_SYNTAX} needs a model with the text encoders of Stable Diffusion 1, 2 or XL. On the server, "
            f"{COMPEL_SYNTAX} also needs the extra `weighting` (pip install -c constraints.txt '.[weighting]')",
        )
    for field, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt or "")):
        depth = _nesting(text)
        if depth > MAX_NESTING:
            raise InvalidRequest(
                field,
                f"must have at most {MAX_NESTING} nested parentheses with prompt_syntax {COMPEL_SYNTAX}, got {depth}; "
                r"a literal parenthesis is written as \( or \)",
            )
    return request.prompt_syntax


def _nesting(text: str) -> int:
    """Return the maximum number of parentheses that are open at the same time. Escaped parentheses are not counted."""
    depth = deepest = 0
    previous = ""
    for character in text:
        if previous != "\\":
            depth = max(0, depth + (character == "(") - (character == ")"))
            deepest = max(deepest, depth)
        previous = character
    return deepest
