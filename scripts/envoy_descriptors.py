"""Write deploy/envoy/latents.binpb, with which Envoy converts between JSON and gRPC. Run by `make proto`.

The file contains the descriptors of the schema in proto/, and those of google.rpc for the details of errors.
"""

import sys
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "deploy" / "envoy" / "latents.binpb"


def descriptor_set() -> bytes:
    """Return a serialized google.protobuf.FileDescriptorSet, in which every file is after those that it imports."""
    files: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            add(dependency)
        files[file.name] = file

    for root in (pb.DESCRIPTOR, status_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR):
        add(root)
    found = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(found.file.add())
    return found.SerializeToString(deterministic=True)


def main() -> int:
    """Write the file; return the process's exit status."""
    TARGET.write_bytes(descriptor_set())
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
