"""Reasons for not serving, as reported by the health service of a gRPC server."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gramophone_server.observability.readiness import REASON, Readiness

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


async def check(stub: health_pb2_grpc.HealthStub, service: str = "") -> tuple[int, str]:
    """Returns (status of a service, reason or "")."""
    call = stub.Check(health_pb2.HealthCheckRequest(service=service))
    answer = await call
    return answer.status, str(dict(await call.trailing_metadata()).get(REASON, ""))


async def settled() -> None:
    await asyncio.sleep(0.05)


async def test_the_status_is_not_serving_while_there_is_a_reason(checked):
    readiness, stub = checked
    assert await check(stub) == (SERVING, "")
    readiness.set_reason("storage", "the disk is full")
    readiness.set_reason("workers", "cuda:0 is lost")
    await settled()
    for service in ("", "painter"):
        assert await check(stub, service) == (NOT_SERVING, "the disk is full; cuda:0 is lost")
    readiness.set_reason("storage", None)
    await settled()
    assert await check(stub) == (NOT_SERVING, "cuda:0 is lost")
    readiness.set_reason("workers", None)
    await settled()
    assert await check(stub, "painter") == (SERVING, "")


async def test_watchers_get_changes_after_one_of_them_has_left(checked):
    readiness, stub = checked
    watchers = [stub.Watch(health_pb2.HealthCheckRequest(service="painter")) for _ in range(3)]
    assert [(await watcher.read()).status for watcher in watchers] == [SERVING] * 3
    watchers.pop(0).cancel()
    await settled()
    readiness.set_reason("workers", "cuda:0 is lost")
    assert [(await watcher.read()).status for watcher in watchers] == [NOT_SERVING] * 2
    await readiness.enter_graceful_shutdown()
    readiness.set_reason("workers", None)
    assert await check(stub) == (NOT_SERVING, "")
    for watcher in watchers:
        watcher.cancel()


async def test_an_unknown_service_is_not_found(checked):
    _, stub = checked
    with pytest.raises(grpc.RpcError) as caught:
        await check(stub, "nobody")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watcher = stub.Watch(health_pb2.HealthCheckRequest(service="nobody"))
    assert (await watcher.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watcher.cancel()


async def test_odd_characters_in_a_reason_are_replaced(checked):
    readiness, stub = checked
    readiness.set_reason("storage", "Ärger\nwith\x00 two lines " + "x" * 5000)
    status, reason = await check(stub)
    assert status == NOT_SERVING
    assert reason.startswith("?rger with two lines xxx")
    assert len(reason) < 600


async def test_changes_are_logged(checked, caplog):
    readiness, _ = checked
    with caplog.at_level("INFO"):
        for reason in ("cuda:0 is lost", "cuda:0 is lost", None, None):
            readiness.set_reason("workers", reason)
    assert [record.message for record in caplog.records] == ["not serving: cuda:0 is lost", "serving again"]
