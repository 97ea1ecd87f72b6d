"""A job asks the front for memory until it is granted, or until the job is stopped."""

import threading

from gramophone_server.messages.pipe import RoomRequest
from gramophone_server.worker.room import Room


class Front:
    """Receives the messages of a room, and grants the requests whose memory there is."""

    def __init__(self) -> None:
        self.room = Room(self)  # type: ignore[arg-type]
        self.requests: list[RoomRequest] = []

    def send(self, request: RoomRequest) -> None:
        self.requests.append(request)
        if request.needed <= request.available:
            threading.Thread(target=self.room.grant, args=(request.job_id,)).start()


def test_a_job_asks_again_until_there_is_memory_for_it():
    front, free = Front(), iter([10, 20, 60])
    assert front.room.enter("a", 50, lambda: next(free), lambda: False)
    assert front.requests == [RoomRequest("a", 50, available) for available in (10, 20, 60)]


def test_a_job_that_is_stopped_while_it_waits_does_not_enter():
    front = Front()
    assert not front.room.enter("a", 50, lambda: 10, lambda: len(front.requests) == 2)


def test_an_old_grant_does_not_admit_a_job_that_runs_again():
    front = Front()
    front.room.grant("a")
    assert not front.room.enter("a", 50, lambda: 10, lambda: bool(front.requests))
