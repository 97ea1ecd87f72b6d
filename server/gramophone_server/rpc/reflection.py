"""Server reflection under both names: grpc.reflection.v1, which newer tools use, and grpc.reflection.v1alpha.

The package grpcio-reflection has only v1alpha. The messages of both are equal except for their package.
"""

from collections.abc import Iterable

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

_FILE = "grpc/reflection/v1/reflection.proto"


def services() -> tuple[ServiceDescriptor, ...]:
    """Returns the descriptors of both reflection services, v1 first."""
    return tuple(file.services_by_name["ServerReflection"] for file in (_v1_file(), reflection_pb2.DESCRIPTOR))


def add_reflection(names: Iterable[str], server: grpc.aio.Server) -> None:
    """Adds reflection of the named services, of reflection itself and of the error details (google.rpc)."""
    versions = services()
    servicer = reflection.aio.ReflectionServicer((*names, *(version.full_name for version in versions)))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(versions[0].full_name, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))


def _v1_file() -> FileDescriptor:
    """Returns the descriptor of the v1 file, made from the v1alpha file if no installed package has it."""
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
