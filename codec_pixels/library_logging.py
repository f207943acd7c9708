"""Stops diffusers and transformers from logging and drawing progress bars over our own output."""

import os


def silence_libraries() -> None:
    """Let both libraries speak of errors alone. Their first words come while they are imported: call it before."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    from diffusers.utils import logging as diffusers_logging  # noqa: PLC0415
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
