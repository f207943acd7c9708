"""Certificates that are made for one test."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Pair:
    """PEM files with a certificate and its private key."""

    cert: Path
    key: Path

    def replace_by(self, other: "Pair") -> None:
        """Copy the files of `other` to those of this pair."""
        self.cert.write_bytes(other.cert.read_bytes())
        self.key.write_bytes(other.key.read_bytes())


class Authority:
    """A certificate authority and its PEM file, `file`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._ca = trustme.CA()
        self._folder = folder
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *, hosts: Sequence[str] = ("localhost", "127.0.0.1"), expired: bool = False) -> Pair:
        """Return a new certificate for `hosts`; `name` is the name of its files."""
        not_after = datetime.now(UTC) + timedelta(days=-1 if expired else 1)
        issued = self._ca.issue_cert(*hosts, not_before=not_after - timedelta(days=9), not_after=not_after)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(pair.key)
        return pair
