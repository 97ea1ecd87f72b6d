"""Server reflection under both of its names: grpc.reflection.v1, which newer tools ask for, and v1alpha.

The package grpcio-reflection has only v1alpha. Both have the same messages in all but their package.
"""

from collections.abc import Iterable

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

_FILE = "grpc/reflection/v1/reflection.proto"


def services() -> tuple[ServiceDescriptor, ...]:
    """The reflection services, the newer one first."""
    old = reflection_pb2.DESCRIPTOR
    return tuple(file.services_by_name["ServerReflection"] for file in (_newer(), old))


def add_reflection(names: Iterable[str], server: grpc.aio.Server) -> None:
    """Has a server describe the services of those names, itself and the details of errors (google.rpc)."""
    kinds = services()
    servicer = reflection.aio.ReflectionServicer((*names, *(kind.full_name for kind in kinds)))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(kinds[0].full_name, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))


def _newer() -> FileDescriptor:
    """The file of v1, made of that of v1alpha where no package brings it."""
    pool = descriptor_pool.Default()
    try:
        return pool.FindFileByName(_FILE)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        text = text_format.MessageToString(file).replace("v1alpha", "v1")
        made = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
        made.name = _FILE
        pool.AddSerializedFile(made.SerializeToString())
        return pool.FindFileByName(_FILE)
