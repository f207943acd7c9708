"""Access to the Hugging Face Hub that fails within seconds if the hub cannot be reached."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import constants, get_session, model_info, try_to_load_from_cache
from huggingface_hub.errors import RepositoryNotFoundError

log = logging.getLogger(__name__)

TIMEOUT_S = 4.0
"""Timeout in seconds for connecting to the hub, and also for waiting for a response of the hub.

The package huggingface_hub itself would wait 10 s and repeat each request several times.
"""
INDEX = "model_index.json"
"""Name of the file in a pipeline's directory that lists the class and the components of the pipeline."""


class HubError(OSError):
    """Raised if a repository does not exist. Also raised if files are not cached and the hub cannot be reached."""


@contextmanager
def hub_access(repository: str, remedy: str) -> Iterator[bool]:
    """Yield whether only cached files of `repository` may be used.

    Only cached files may be used if offline mode is on or the hub does not respond. If only cached files may be used,
    an OSError in the `with` block is replaced with a HubError. The message of the HubError contains `remedy`. The
    OSError is also replaced with a HubError if the hub does not find the repository.
    """
    reason = _unavailable()
    if reason is not None:
        log.info("%s: using the cached files of %s", reason, repository)
    try:
        yield reason is not None
    except OSError as error:
        if reason is None and isinstance(error, RepositoryNotFoundError):
            message = "there is no such repository on the hub, or access to it needs a token (HF_TOKEN)"
            raise HubError(f"{repository}: {message}") from error
        if reason is None:
            raise
        raise HubError(f"{reason}, and the local cache does not contain all files of {repository}; {remedy}") from error


def repository_files(repository: str, *, local_files_only: bool) -> list[str]:
    """Return the paths of all files in `repository`.

    If `local_files_only` is set, return only the paths of cached files. Raises the errors of huggingface_hub if the
    paths cannot be read.
    """
    if not local_files_only:
        return [file.rfilename for file in model_info(repository).siblings or ()]
    index = try_to_load_from_cache(repository, INDEX)
    if not isinstance(index, str):
        return []
    folder = Path(index).parent
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _unavailable() -> str | None:
    """Return the reason why the hub cannot be used, or None if the hub responds."""
    if constants.HF_HUB_OFFLINE:
        return "offline mode is on (HF_HUB_OFFLINE)"
    try:
        status = get_session().head(constants.ENDPOINT, timeout=TIMEOUT_S, follow_redirects=False).status_code
    except Exception as error:  # the HTTP library differs between releases of huggingface_hub
        reason = str(error) or type(error).__name__
    else:
        if status < 500:
            return None
        reason = f"status {status}"
    return f"the Hugging Face Hub ({constants.ENDPOINT}) could not be reached: {reason}"
