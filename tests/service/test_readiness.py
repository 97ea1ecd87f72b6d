"""What speaks against serving, seen through the health service of a gRPC server."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gramophone_server.service.readiness import REASON, Readiness

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def checked() -> AsyncIterator[tuple[Readiness, health_pb2_grpc.HealthStub]]:
    server, readiness = grpc.aio.server(), Readiness(("painter",))
    health_pb2_grpc.add_HealthServicer_to_server(readiness, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await readiness.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield readiness, health_pb2_grpc.HealthStub(channel)
    await server.stop(None)


async def look(stub: health_pb2_grpc.HealthStub, service: str = "") -> tuple[int, str]:
    """The status of a service and the reason beside it."""
    call = stub.Check(health_pb2.HealthCheckRequest(service=service))
    answer = await call
    return answer.status, str(dict(await call.trailing_metadata()).get(REASON, ""))


async def settled() -> None:
    await asyncio.sleep(0.05)


async def test_serving_until_something_speaks_against_it(checked):
    readiness, stub = checked
    assert await look(stub) == (SERVING, "")
    readiness.set_reason("storage", "the disk is full")
    readiness.set_reason("workers", "cuda:0 is lost")
    await settled()
    for service in ("", "painter"):
        assert await look(stub, service) == (NOT_SERVING, "the disk is full; cuda:0 is lost")
    readiness.set_reason("storage", None)
    await settled()
    assert await look(stub) == (NOT_SERVING, "cuda:0 is lost")
    readiness.set_reason("workers", None)
    await settled()
    assert await look(stub, "painter") == (SERVING, "")
