"""The mailbox between a worker and the bridge: nothing is lost, doubled or piled up, whatever the reader repeats."""

import threading
import time

from gramophone_server.bridge.mailbox import Mailbox


def test_messages_are_delivered_in_order_until_they_are_confirmed():
    mailbox = Mailbox()
    for message in (b"a", b"b", b"c"):
        mailbox.put(None, message)
    everything = ([(1, b"a"), (2, b"b"), (3, b"c")], None)
    assert mailbox.take(0, 0) == everything
    # The answer was lost.
    assert mailbox.take(0, 0) == everything
    assert mailbox.take(2, 0) == ([(3, b"c")], None)
    assert mailbox.take(3, 0) == ([], None)


def test_a_newer_message_with_the_same_key_replaces_the_older():
    mailbox = Mailbox()
    for number in range(1000):
        mailbox.put("job", b"%d" % number)
        mailbox.put("other", b"o%d" % number)
    mailbox.put(None, b"kept")
    assert [message for _, message in mailbox.take(0, 0)[0]] == [b"999", b"o999", b"kept"]


def test_a_message_that_replaces_a_delivered_one_is_delivered():
    mailbox = Mailbox()
    mailbox.put("job", b"old")
    ((number, _),) = mailbox.take(0, 0)[0]
    mailbox.put("job", b"new")
    ((newer, message),) = mailbox.take(number, 0)[0]
    assert message == b"new" and newer > number


def test_large_messages_are_delivered_one_by_one_and_the_ending_after_the_last():
    mailbox = Mailbox()
    large = bytes(6 << 20)
    mailbox.put(None, large)
    mailbox.put(None, large)
    mailbox.close("exited")
    assert mailbox.take(0, 0) == ([(1, large)], None)
    assert mailbox.take(1, 0) == ([(2, large)], "exited")
    assert mailbox.take(2, 0) == ([], "exited")


def test_a_reader_waits_for_a_message_and_not_longer():
    mailbox = Mailbox()
    threading.Timer(0.2, mailbox.put, (None, b"a")).start()
    begun = time.monotonic()
    assert mailbox.take(0, 30) == ([(1, b"a")], None)
    assert 0.1 < time.monotonic() - begun < 20
    assert mailbox.take(1, 0.05) == ([], None)
