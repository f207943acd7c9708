"""gRPC server reflection, versions v1 and v1alpha.

The grpcio-reflection package contains only v1alpha. The versions v1 and v1alpha of the reflection protocol differ only
in the package name, so this module uses the servicer and the messages of v1alpha for both versions.
"""

from collections.abc import Iterable

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

_V1ALPHA, _V1 = "grpc.reflection.v1alpha", "grpc.reflection.v1"
SERVICE_NAME_V1 = f"{_V1}.ServerReflection"


def enable_reflection(service_names: Iterable[str], server: grpc.aio.Server) -> None:
    """Add the reflection service in the versions v1 and v1alpha to `server`.

    The reflection service lists the services `service_names` and the reflection service.
    """
    _register_v1_schema()
    names = (*service_names, reflection.SERVICE_NAME, SERVICE_NAME_V1)
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    services = (reflection.SERVICE_NAME, SERVICE_NAME_V1)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, methods) for name in services])


def _register_v1_schema() -> None:
    """Add the schema of v1, which is derived from v1alpha, to the descriptor pool that reflection searches."""
    pool = descriptor_pool.Default()
    schema = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(schema)
    schema.name, schema.package = "grpc/reflection/v1/reflection.proto", _V1
    schema.ClearField("options")  # names of generated code for v1alpha
    for message in schema.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(_V1ALPHA, _V1)
    method = schema.service[0].method[0]
    method.input_type = method.input_type.replace(_V1ALPHA, _V1)
    method.output_type = method.output_type.replace(_V1ALPHA, _V1)
    pool.AddSerializedFile(schema.SerializeToString())
