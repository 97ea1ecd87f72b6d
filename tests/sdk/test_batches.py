"""client.map: many jobs in order, some at a time, each with its own outcome."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import gramophone
from gramophone import Options
from gramophone.retry import Attempts
from tests.harness import ServerProcess, png, run, style_request, wait_until

SMALL: Options = {"size": 32, "iterations": 2}
LONGER: Options = {"size": 32, "iterations": 5}
ENDLESS: Options = {"size": 32, "iterations": 1_000_000, "report_every": 2, "time_limit": 30}


def method(client: Any, name: str) -> Any:
    """Returns the method of the synchronous or of the wrapped asynchronous client."""
    return getattr(getattr(client, "_inner", client), name)


@pytest.fixture(scope="module")
def small() -> Iterator[ServerProcess]:
    """A server with room for four waiting jobs; it has run one, so it knows how long jobs take."""
    with ServerProcess("--max-queued", "4") as server:
        run(server, style_request())
        yield server


def test_results_come_in_order_also_with_more_jobs_than_the_queue_takes(small, connect, monkeypatch):
    """Of twelve jobs, nine are submitted at once, and the server refuses some of them at first."""
    refused: list[grpc.RpcError] = []

    def pause(attempts: Attempts, error: grpc.RpcError) -> float:
        refused.append(error)
        return wait(attempts, error)

    wait = Attempts.pause
    monkeypatch.setattr(Attempts, "pause", pause)
    client = connect(small.address)
    outcomes = list(client.map(method(client, "style"), itertools.repeat(png(), 12), at_once=9, **LONGER))
    assert [outcome.number for outcome in outcomes] == list(range(12))
    assert all(outcome.result().iterations == 5 for outcome in outcomes)
    assert len({outcome.job_id for outcome in outcomes}) == 12
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_one_failure_does_not_lose_the_others(server, connect, tmp_path):
    client = connect(server.address)
    pictures = [png(), b"no picture", tmp_path / "nowhere.png", png(seed=1)]
    outcomes = list(client.map(method(client, "style"), pictures, at_once=2, **SMALL))
    assert [type(outcome.error) for outcome in outcomes] == [
        type(None), gramophone.InvalidRequestError, FileNotFoundError, type(None),
    ]  # fmt: skip
    assert [outcome.value is not None for outcome in outcomes] == [True, False, False, True]
    with pytest.raises(gramophone.InvalidRequestError):
        outcomes[1].result()


def test_the_shortest_list_sets_the_number_of_jobs(flaky, connect):
    client = connect(flaky.address)
    outcomes = list(client.map(method(client, "transfer"), [b"a", b"b", b"c"], itertools.repeat(b"style")))
    assert len(outcomes) == 3 == len(flaky.jobs())


def test_at_once_bounds_the_number_of_submitted_jobs(flaky, connect):
    client = connect(flaky.address)
    outcomes = client.map(method(client, "style"), itertools.repeat(b"picture"), at_once=3)
    next(iter(outcomes))
    assert len(flaky.jobs()) == 3


def test_map_retries_submissions_to_an_overloaded_server(flaky, connect):
    client = connect(flaky.address, retry_for=0.5)
    flaky.script(*["ReconstructStyle abort RESOURCE_EXHAUSTED"] * 3)
    assert [outcome.error for outcome in client.map(method(client, "style"), [b"a", b"b"])] == [None, None]
    flaky.script("ReconstructStyle abort RESOURCE_EXHAUSTED")
    # Other calls do not retry by themselves.
    with pytest.raises(gramophone.OverloadedError, match=r"retry_overload=True.*client\.map"):
        client.style(b"picture")


def test_leaving_the_loop_cancels_the_jobs_under_way(server):
    with gramophone.Client(server.address) as client:
        first = client.style(png(), **SMALL)
        first.result()
        for outcome in client.map(lambda n: client.style(png(), **(ENDLESS if n else SMALL)), range(4), at_once=3):
            assert outcome.number == 0
            break
        began = time.monotonic()
        wait_until(lambda: not list(client.jobs(states=["queued", "running"])), "the jobs to end", timeout=10)
        assert time.monotonic() - began < 10


def test_wrong_arguments_are_errors_that_say_what_to_write(connect, flaky):
    client = connect(flaky.address)
    style = method(client, "style")
    for wrong, error, words in (
        (lambda: client.map(style), TypeError, "at least one list"),
        (lambda: client.map(style, "one.png"), TypeError, r"itertools\.repeat\('one\.png'\)"),
        (lambda: client.map(style, [b"a"], at_once=0), ValueError, "at_once must be at least 1, not 0"),
    ):
        with pytest.raises(error, match=words):
            wrong()
    (outcome,) = client.map(style, [b"a"], sise=3)
    assert "did you mean size?" in str(outcome.error)
