"""The outbox: the order of messages, and the last one."""

import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from gramophone_server.messages.events import Progress
from gramophone_server.messages.pipe import DeviceFailed, Ended, FromWorker, Progressed
from gramophone_server.worker.outbox import Outbox

LAST = DeviceFailed("cuda:0", "an error")


def progressed(iteration: int) -> Progressed:
    """Returns the progress of a job "a"."""
    return Progressed("a", Progress(iteration, 100, 1.0, (), 1.0, 1.0, 1.0))


def received(connection: Connection) -> list[FromWorker]:
    """Returns all messages up to the last one."""
    messages: list[FromWorker] = []
    while LAST not in messages:
        assert connection.poll(20), messages
        messages.append(connection.recv())
    return messages


def test_the_last_message_follows_queued_outcomes_but_no_progress():
    front, worker = Pipe()
    outbox, building, go = Outbox(worker), threading.Event(), threading.Event()

    def slow() -> Progressed:
        building.set()
        go.wait(20)
        return progressed(1)

    outbox.send_progress("a", slow)
    assert building.wait(20)
    outbox.send(Ended("b", None))
    outbox.send_progress("a", lambda: progressed(2))
    outbox.send_last(LAST, 20)
    outbox.send(Ended("c", None))
    go.set()
    assert received(front) == [Ended("b", None), LAST]
    assert not front.poll(0.2)


def test_a_function_that_builds_a_message_can_send_the_last_one():
    front, worker = Pipe()
    outbox = Outbox(worker)

    def failing() -> Progressed:
        outbox.send_last(LAST, 20)
        return progressed(1)

    outbox.send(Ended("b", None))
    outbox.send_progress("a", failing)
    assert received(front)[-1] == LAST
    assert not front.poll(0.2)


def test_newer_progress_replaces_the_queued_one_of_its_job():
    front, worker = Pipe()
    outbox, building, go = Outbox(worker), threading.Event(), threading.Event()

    def slow() -> Progressed:
        building.set()
        go.wait(20)
        return progressed(1)

    outbox.send_progress("a", slow)
    assert building.wait(20)
    for iteration in (2, 3):
        outbox.send_progress("a", lambda iteration=iteration: progressed(iteration))  # type: ignore[misc]
    go.set()
    outbox.send(Ended("a", None))
    found = []
    while not isinstance(message := front.recv(), Ended):
        found.append(message.progress.iteration)
    assert found == [1, 3]
