"""Clients that are created in one event loop, thread or process and used in others."""

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
from typing import Any

import pytest

import gramophone
from gramophone import Options, aio
from tests.harness import png

SMALL: Options = {"size": 32, "iterations": 6, "report_every": 2}
_FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
ENDLESS: Options = {"size": 32, "iterations": 1_000_000, "report_every": 2, "time_limit": 30}


def program(server: Any, text: str, **environment: str) -> str:
    """Runs a program that may use `address` and `picture`; returns its output. Errors and resource warnings fail."""
    code = f"""
import asyncio, faulthandler, os, sys, threading, time
import gramophone
from gramophone import aio
address, picture = sys.argv[1], bytes.fromhex(sys.argv[2])
small, endless = {SMALL!r}, {ENDLESS!r}
faulthandler.dump_traceback_later(30, exit=True)
{textwrap.dedent(text)}
"""
    command = [sys.executable, "-X", "dev", "-c", code, server.address, png().hex()]
    # The program runs with gRPC's default; the tests themselves turn fork support off.
    environment = {name: value for name, value in os.environ.items() if name != _FORK_SUPPORT} | environment
    # Files instead of pipes: a forked process that hangs would keep a pipe open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        status = subprocess.run(command, stdout=out, stderr=err, env=environment, timeout=60, check=False).returncode
        out.seek(0), err.seek(0)
        printed, logged = out.read(), err.read()
    assert status == 0, logged
    for word in ("Error", "Warning", "never"):
        assert word not in logged, logged
    return printed


def test_a_client_is_used_in_one_loop_after_another(server):
    out = program(
        server,
        """
        client = aio.Client(address)
        async def main():
            job = await client.style(picture, **small)
            frames = [frame.iteration async for frame in job]
            print(len(await client.models()), frames[-1], (await job.result()).iterations)
        for _ in range(3):
            asyncio.run(main())
        assert len(client._connection.stubs._stubs) == 1
        async def close():
            await client.close()
        asyncio.run(close())
        """,
    )
    assert out.split("\n")[:3] == ["2 6 6"] * 3


def test_a_client_keeps_no_closed_loop_alive(server):
    client = aio.Client(server.address)
    for _ in range(3):
        asyncio.run(client.models())
    gc.collect()
    stubs: Any = client._connection.stubs
    assert len(stubs._stubs) == 1


def test_loops_of_several_threads_share_a_client(server):
    client = aio.Client(server.address)
    done: list[int] = []

    async def paint(seed: int) -> None:
        job = await client.style(png(), **(SMALL | {"seed": seed}))
        done.append((await job.result()).iterations)

    threads = [threading.Thread(target=asyncio.run, args=(paint(seed),)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == [6] * 4


def test_a_job_created_in_one_loop_is_read_in_another(server):
    client = aio.Client(server.address)

    async def begin() -> aio.Job:
        job = await client.style(png(), **ENDLESS)
        async for _ in job:
            break
        return job

    async def end(job: aio.Job) -> list[int]:
        seen: list[int] = []

        async def read() -> None:
            async for frame in job:
                seen.append(frame.iteration)
                if len(seen) == 3:
                    await job.cancel()

        with pytest.raises(gramophone.JobCancelledError):
            await read()
        assert (await job.info()).state == "cancelled"
        await client.close()
        return seen

    job = asyncio.run(begin())
    seen = asyncio.run(end(job))
    assert seen == sorted(set(seen))


@pytest.mark.slow
def test_a_job_is_read_in_two_loops_at_once(server):
    client = aio.Client(server.address)
    seen: list[int] = []
    reading = threading.Event()

    async def read(job: aio.Job) -> None:
        async for frame in job:
            seen.append(frame.iteration)
            reading.set()

    async def main() -> None:
        job = await client.style(png(), size=32, iterations=200, report_every=2)
        thread = threading.Thread(target=asyncio.run, args=(read(job),))
        thread.start()
        mine = [frame.iteration async for frame in job]
        await asyncio.to_thread(thread.join, 60)
        assert mine[-1] == seen[-1] == 200
        await client.close()

    asyncio.run(main())


def test_closing_a_client_in_one_loop_closes_it_in_all(server):
    client = aio.Client(server.address)
    used, closed = threading.Event(), threading.Event()
    after: list[BaseException] = []

    async def use() -> None:
        await client.models()
        used.set()
        await asyncio.to_thread(closed.wait)
        try:
            await client.models()
        except RuntimeError as error:
            after.append(error)

    async def close() -> None:
        await client.models()
        await client.close()
        await client.close()

    thread = threading.Thread(target=asyncio.run, args=(use(),))
    thread.start()
    used.wait(20)
    asyncio.run(close())
    closed.set()
    thread.join(20)
    assert "closed" in str(after[0])


def test_calls_of_a_closed_client_are_errors(server, connect):
    client = connect(server.address)
    job = client.style(png(), **SMALL)
    result = job.result()
    client.close()
    client.close()
    assert job.result() == result
    for call in (client.models, job.info, lambda: client.style(png()), lambda: client.upload(png())):
        with pytest.raises(RuntimeError, match="this client is closed; make a new one"):
            call()
    unused = connect(server.address)
    unused.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        unused.models()


@pytest.mark.parametrize("kind", [gramophone.Client, aio.Client])
def test_arguments_are_checked_when_a_client_is_created(kind, tmp_path):
    with pytest.raises(ValueError, match="unencrypted"):
        kind("example.com:50051", token="abc")
    with pytest.raises(ValueError, match="go together"):
        kind("localhost:50051", certificate=b"x")
    with pytest.raises(FileNotFoundError):
        kind("localhost:50051", root_certificates=tmp_path / "none.pem")


def test_threads_share_a_client(server):
    client = gramophone.Client(server.address)
    done: list[int] = []

    def paint(seed: int) -> None:
        done.append(client.style(png(), **(SMALL | {"seed": seed})).result().iterations)

    threads = [threading.Thread(target=paint, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    client.close()
    assert done == [6] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.parametrize("before", ["", "client.models()", "client.style(picture, **small).result()"])
def test_a_forked_process_opens_its_own_connection(server, before):
    """For example, a web server loads a program and then forks its workers."""
    out = program(
        server,
        f"""
        import warnings
        warnings.simplefilter("ignore")
        client = gramophone.Client(address, timeout=10)
        {before}
        pid = os.fork()
        if pid == 0:
            print(len(client.models()), client.style(picture, **small).result().iterations, flush=True)
            client.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        print("parent", len(client.models()))
        client.close()
        """,
    )
    assert out.split("\n")[:2] == ["2 6", "parent 2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_calls_after_a_fork_during_a_stream_are_errors_and_no_hang(server):
    """This holds for all clients in the child process; the parent process is not affected."""
    out = program(
        server,
        """
        import warnings
        warnings.simplefilter("ignore")
        client = gramophone.Client(address, timeout=10)
        job = client.style(picture, **endless)
        next(iter(job))
        pid = os.fork()
        if pid == 0:
            for call in (client.models, job.info, job.result, gramophone.Client(address).models):
                try:
                    call()
                except RuntimeError as error:
                    print(error, flush=True)
            client.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        next(iter(job))
        job.cancel()
        client.close()
        """,
    )
    assert out.count("forked while a stream of a client was open") == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_calls_after_a_fork_without_fork_support_are_errors_and_no_hang(server):
    out = program(
        server,
        """
        import warnings
        warnings.simplefilter("ignore")
        client = gramophone.Client(address)
        client.models()
        pid = os.fork()
        if pid == 0:
            for each in (client, gramophone.Client(address)):
                try:
                    each.models()
                except RuntimeError as error:
                    print(error, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        client.close()
        """,
        **{_FORK_SUPPORT: "false"},
    )
    assert out.count("unset it, start processes with the method 'spawn'") == 2
