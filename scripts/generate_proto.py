"""Generate codec_wire/generated from proto/: messages, stubs, their types, and the schema text served to clients.

Run by `make proto`. `--check` changes nothing and lists the files that are out of date; `--as-plugin` implements buf's
plugin protocol.
"""

import argparse
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
GENERATED = ROOT / "codec_wire" / "generated"
PACKAGE = "codec_wire.generated"


def generate(proto_dir: Path) -> dict[str, bytes]:
    """Return {path in the generated folder: content} for all .proto files in `proto_dir`.

    Raises RuntimeError if protoc fails; protoc prints the reason.
    """
    sources = sorted(path.relative_to(proto_dir).as_posix() for path in proto_dir.rglob("*.proto"))
    well_known = str(resources.files("grpc_tools") / "_proto")
    with tempfile.TemporaryDirectory() as folder:
        bin_dir = Path(sys.executable).parent
        arguments = ["protoc", f"-I{proto_dir}", f"-I{well_known}"]
        arguments += [f"--plugin=protoc-gen-{name}={bin_dir / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
        arguments += [f"--{kind}_out={folder}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
        if protoc.main([*arguments, *sources]) != 0:
            raise RuntimeError(f"protoc failed for {', '.join(sources)}; it has printed the reason")
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*.py*")}
    outputs = {name: _inside_our_package(content) for name, content in files.items()}
    # The plugin also writes stubs, which are empty, for a file without a service.
    stubs = {
        f"{name.removesuffix('.proto')}_pb2_grpc"
        for name in sources
        if b"\nservice " in (proto_dir / name).read_bytes()
    }
    outputs = {
        name: content
        for name, content in outputs.items()
        if "_pb2_grpc" not in name or name.rpartition(".")[0] in stubs
    }
    for folder_name in {str(Path(name).parent) for name in outputs}:
        parts = Path(folder_name).parts
        for depth in range(len(parts) + 1):
            outputs[Path(*parts[:depth], "__init__.py").as_posix()] = b""
    outputs |= {name: (proto_dir / name).read_bytes() for name in sources}
    return outputs


def _inside_our_package(content: bytes) -> bytes:
    """Change the generated absolute imports so that they work inside the package PACKAGE."""
    text = content.decode()
    text = text.replace("from codec.latents.v1 import", f"from {PACKAGE}.codec.latents.v1 import")
    # The typing plugin writes fully qualified module names.
    text = text.replace("import codec.latents.v1.", f"import {PACKAGE}.codec.latents.v1.")
    text = text.replace("import codec\n", f"import {PACKAGE}.codec\n")
    # The module name of the message classes. pickle imports this module.
    text = text.replace("DESCRIPTOR, 'codec.latents.v1.", f"DESCRIPTOR, '{PACKAGE}.codec.latents.v1.")
    return text.encode()


def stale_files(expected: dict[str, bytes]) -> list[str]:
    """Return the files in codec_wire/generated that differ from `expected`, are missing, or should not exist."""
    present = {
        path.relative_to(GENERATED).as_posix(): path.read_bytes()
        for path in GENERATED.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return sorted(name for name in expected.keys() | present.keys() if expected.get(name) != present.get(name))


def _run_as_plugin() -> None:
    CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    for name, content in sorted(generate(PROTO).items()):
        response.file.add(name=name, content=content.decode())
    sys.stdout.buffer.write(response.SerializeToString())


def main() -> int:
    """Run the command line; return the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a file is out of date")
    parser.add_argument("--as-plugin", action="store_true", help="implement buf's plugin protocol on stdin and stdout")
    options = parser.parse_args()
    if options.as_plugin:
        _run_as_plugin()
        return 0
    expected = generate(PROTO)
    if options.check:
        stale = stale_files(expected)
        for name in stale:
            print(f"out of date: codec_wire/generated/{name} (run `make proto`)")
        return 1 if stale else 0
    shutil.rmtree(GENERATED, ignore_errors=True)
    for name, content in expected.items():
        target = GENERATED / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    print(f"wrote {len(expected)} files to {GENERATED.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
