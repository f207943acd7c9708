"""The committed protobuf code is up to date with the schema in proto/."""

import shutil
from pathlib import Path

from scripts.generate_proto import PROTO, generate, stale_files


def test_committed_code_matches_the_schema() -> None:
    assert stale_files(generate(PROTO)) == []


def test_changed_schema_makes_its_files_stale(tmp_path: Path) -> None:
    shutil.copytree(PROTO, tmp_path / "proto")
    schema = tmp_path / "proto" / "codec" / "latents" / "v1" / "stream.proto"
    schema.write_text(schema.read_text().replace("optional bytes scales = 5;", "optional bytes scale = 5;"))
    stale = stale_files(generate(tmp_path / "proto"))
    assert {name.rpartition("/")[2] for name in stale} == {"stream.proto", "stream_pb2.py", "stream_pb2.pyi"}
