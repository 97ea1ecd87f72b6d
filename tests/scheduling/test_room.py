"""The memory of the jobs of a device: they enter in order, and only if there is memory for all of them."""

from gramophone_server.scheduling.room import Room


def test_a_job_waits_until_the_memory_of_others_is_free():
    room = Room()
    assert room.enter("a", 60, 100)
    assert not room.enter("b", 50, 100)
    room.leave("a")
    assert room.enter("b", 50, 100)
    assert room.planned == {"b": 50}


def test_the_only_job_always_enters_because_its_plan_was_compared_with_the_memory():
    room = Room()
    assert not room.fits(200, 100)
    assert room.enter("a", 200, 100)


def test_a_job_that_asks_again_after_it_has_entered_is_counted_once_and_stops_no_other():
    room = Room()
    assert room.enter("a", 60, 100)
    assert not room.enter("b", 50, 100)
    assert room.enter("a", 60, 50)
    assert room.planned == {"a": 60}
    assert room.enter("b", 40, 100)
    assert room.enter("c", 0, 100)


def test_no_job_overtakes_one_that_waits():
    room = Room()
    room.enter("a", 60, 100)
    assert not room.enter("large", 80, 100)
    assert not room.enter("small", 10, 100)
    room.leave("a")
    assert not room.enter("small", 10, 100)
    assert room.enter("large", 80, 100)
    assert room.enter("small", 10, 100)


def test_a_job_that_stops_waiting_lets_the_next_one_enter():
    room = Room()
    room.enter("a", 60, 100)
    assert not room.enter("large", 80, 100)
    room.leave("large")
    assert room.enter("small", 10, 100)
