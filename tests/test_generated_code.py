"""The committed generated code is what the schema gives today."""

import shutil
from pathlib import Path

from scripts.generate_proto import PROTO, generate, stale_files


def test_nothing_is_stale() -> None:
    assert stale_files(generate(PROTO)) == []


def test_a_changed_schema_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(PROTO, tmp_path / "proto")
    schema = tmp_path / "proto" / "codec" / "latents" / "v1" / "stream.proto"
    schema.write_text(schema.read_text().replace("optional bytes scales = 5;", "optional bytes scale = 5;"))
    stale = stale_files(generate(tmp_path / "proto"))
    assert {name.rpartition("/")[2] for name in stale} == {"stream.proto", "stream_pb2.py", "stream_pb2.pyi"}
