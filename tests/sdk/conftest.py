"""Runs tests with both clients: a test that uses the fixture `connect` runs with the synchronous and the async one."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import gramophone
from gramophone import aio
from tests.sdk.flaky_server import FlakyServer


@pytest.fixture
def flaky(tmp_path) -> Iterator[FlakyServer]:
    """A server that fails as its script says."""
    with FlakyServer(tmp_path / "flaky") as server:
        yield server


@pytest.fixture(params=["sync", "aio"])
def connect(request) -> Iterator[Callable[..., Any]]:
    """Returns a function that makes a client; tests call the methods of both kinds without `await`.

    Closes the clients after the test.
    """
    clients: list[Any] = []
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def make(*args: Any, **options: Any) -> Any:
        if request.param == "sync":
            clients.append(gramophone.Client(*args, **options))
        else:

            async def asynchronous() -> aio.Client:
                return aio.Client(*args, **options)

            clients.append(Awaited(_run(loop, asynchronous()), loop))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
    loop.call_soon_threadsafe(loop.stop)


class Awaited:
    """Wraps an asynchronous client or job: each method call waits for the awaited result."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._inner, name)
        if not inspect.ismethod(member):
            return member

        def call(*args: Any, **options: Any) -> Any:
            answer = member(*args, **options)
            if inspect.isasyncgen(answer):
                return self._iterate(answer)
            value = _run(self._loop, answer)
            return Awaited(value, self._loop) if isinstance(value, aio.Job) else value

        return call

    def __iter__(self) -> Iterator[Any]:
        return self._iterate(aiter(self._inner))

    def _iterate(self, values: Any) -> Iterator[Any]:
        end = object()
        while (value := _run(self._loop, _next(values, end))) is not end:
            yield value


async def _next(values: Any, end: object) -> Any:
    return await anext(values, end)


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(work, loop).result(60)
