"""The API keys that a server accepts. Only hashes of the keys are stored in memory."""

import hashlib
import hmac
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codec_wire.errors import InvalidSettings, Unauthenticated
from core.access_settings import AccessSettings

log = logging.getLogger(__name__)

SINGLE_KEY_NAME = "default"
"""Name of the API key that the environment variable CODEC_API_KEY contains."""
MAX_FILE_BYTES = 1024 * 1024
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\s+sha256:([0-9a-fA-F]{64})")
_KEY = re.compile(r"[!-~]+")
_SCHEME = "bearer "


@dataclass(frozen=True, slots=True)
class _Key:
    name: str
    digest: bytes


class ApiKeys:
    """API keys from the settings and from a file. The method `reload` reads the file with the API keys again.

    The file with the API keys contains the SHA-256 hash of each key. The hash protects a key only if the key is random,
    because a key that is not random can be guessed.
    """

    def __init__(self, single: str | None, path: Path | None) -> None:
        """Read the API key `single` and the API keys in the file `path`.

        Raises InvalidSettings if a key is not valid. The message of the error does not contain the key.
        """
        self._single = [] if single is None else [_single_key(single)]
        self._path = path
        self._from_file: Sequence[_Key] = () if path is None else _read(path)

    def reload(self) -> None:
        """Read the file with the API keys again.

        If the file is not valid, the error is logged and the previous keys stay valid.
        """
        if self._path is None:
            return
        try:
            self._from_file = _read(self._path)
        except InvalidSettings as error:
            log.error("cannot reload the API keys; the previous keys stay valid: %s", error)  # noqa: TRY400
            return
        log.info("read %d API keys from %s", len(self._from_file), self._path)

    def authenticate(self, authorization: str | None) -> str:
        """Return the name of the API key in `authorization`.

        `authorization` is the value of the header Authorization, or None if the request does not have this header.
        Raises Unauthenticated if the key is missing or is not an accepted key.
        """
        if authorization is None or not authorization.lower().startswith(_SCHEME):
            raise Unauthenticated('this server requires an API key: send "Authorization: Bearer KEY"')
        digest = _digest(authorization[len(_SCHEME) :].strip())
        # All keys are compared, each in constant time: the duration does not depend on the received key.
        matches = [key.name for key in (*self._single, *self._from_file) if hmac.compare_digest(key.digest, digest)]
        if not matches:
            raise Unauthenticated("the API key is not valid")
        return matches[0]


def read_api_keys(settings: AccessSettings) -> ApiKeys | None:
    """Return the API keys that are configured in `settings`, or None if no key is required.

    Raises InvalidSettings if a key is not valid, or if the file with the keys cannot be read.
    """
    if settings.api_key is None and settings.api_keys_file is None:
        return None
    return ApiKeys(settings.api_key, settings.api_keys_file)


def read_upstream_key(settings: AccessSettings) -> str | None:
    """Return the API key that a gateway sends to its upstream servers, or None if the gateway sends no key.

    Raises InvalidSettings if the key contains characters that cannot be sent, such as a line break at the end. The
    message of the error does not contain the key.
    """
    key = settings.upstream_api_key
    if key is not None and not (key.isascii() and key.isprintable()):
        raise InvalidSettings(
            "CODEC_UPSTREAM_API_KEY (--upstream-api-key): must consist of printable ASCII characters, "
            "without a line break at the end"
        )
    return key


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _single_key(key: str) -> _Key:
    if not _KEY.fullmatch(key):
        raise InvalidSettings("CODEC_API_KEY (--api-key): must consist of printable ASCII characters without spaces")
    return _Key(SINGLE_KEY_NAME, _digest(key))


def _read(path: Path) -> list[_Key]:
    """Return the keys in the file `path`. Blank lines and lines that begin with # are ignored."""
    name = "CODEC_API_KEYS_FILE (--api-keys-file)"
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES).decode()
    except OSError as error:
        raise InvalidSettings(f"{name}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidSettings(f"{name}: {path} is not a text file") from None
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:  # the message must not contain the line, which may be a key
            raise InvalidSettings(
                f"{name}: line {number} of {path} must have the form NAME sha256:HEX with 64 hex digits"
            )
        keys.append(_Key(match[1], bytes.fromhex(match[2])))
    if not keys:
        raise InvalidSettings(f"{name}: {path} contains no keys")
    return keys
