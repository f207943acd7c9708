"""Error messages for models that cannot be loaded, with a remedy if there is one."""

from codec_pixels.known_models import mirror_of
from codec_wire.first_line import first_line


def load_failure(label: str, error: Exception) -> str:
    """Return one line that explains why the model `label` cannot be loaded."""
    reason = first_line(error)
    mirror = mirror_of(label)
    hint = "" if mirror is None else f". It was deleted from the Hugging Face Hub; its mirror is {mirror}"
    return f"cannot load {label}: {reason.rstrip('.') if hint else reason}{hint}"
