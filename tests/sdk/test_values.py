"""The SDK's values and errors survive pickle and copies, and their repr is one line that is safe to log.

The tests find the classes by themselves: a new class without an example here fails.
"""

import copy
import importlib
import inspect
import io
import pickle
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import is_dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

import gramophone
from gramophone import aio
from gramophone.brief import Brief, NotPicklable, Value, described
from gramophone.credentials import Credentials
from gramophone.errors import FieldViolation, GramophoneError
from gramophone.notebook.snapshot import Snapshot
from gramophone.options import OPTIONS
from gramophone.retry import RetryPolicy
from gramophone.runtime import Record
from tests.harness import png

PICTURE = png(24, 16) + bytes(81_000)
LOSSES = (gramophone.LayerLoss("style", "conv1_1", 1.5, 0.2), gramophone.LayerLoss("content", "conv4_2", 2.0, 1.0, 3))
FRAME = gramophone.Frame(4, 300, 12345.678, LOSSES, 9.5, 0.5, 31.25, PICTURE)
RECIPE = {"width": 24, "height": 16, "layers": ["conv1_1"], "versions": {"torch": "2"}}
RESULT = gramophone.Result(PICTURE, 12.5, LOSSES, 300, "vgg19-slim", RECIPE, gramophone.Timings(1, 2, 3))
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
VIOLATIONS = (FieldViolation("options.size", "is 5, but must be 16 to 8192"), FieldViolation("x" * 500, "y" * 500))
SECRET = "gramophone_secret"

VALUES: list[Any] = [
    *LOSSES,
    next(option for option in OPTIONS if option.choices),
    FRAME,
    RESULT,
    gramophone.Timings(1, 2, 3),
    gramophone.JobInfo("ab" * 15, "transfer", "failed", "vgg19", MOMENT, MOMENT, None, FRAME, "no memory " * 99, "ann"),
    gramophone.Estimate(512, 384, 0, 10**9, 10**10, True, 1e15, 12.3456789, 0.1, "cuda:0"),
    gramophone.ModelInfo(
        "vgg19", ("conv1_1", "conv2_1"), "long " * 99, "there", "MIT", "ab" * 32, True, ("conv1_1",), ("conv2_1",)
    ),
    gramophone.Uploaded("ab" * 32),
    Snapshot("ab" * 15, "running", 4, 300, 12345.678, 0.5, 31.25, "M0 0L1 1"),
    gramophone.Outcome(3, "job-1", RESULT, None),
    gramophone.Outcome(3, None, None, None),
    gramophone.Style("starry.jpg", 2, 0.5, PICTURE),
    gramophone.Style(PICTURE, source_mask=Path("mask.png")),
    *VIOLATIONS,
    RetryPolicy(1.0, 2.0, True),
    Record("127.0.0.1:50051", 4711, "ab" * 8),
    Credentials(SECRET, True, private_key=SECRET.encode(), certificate="cert.pem"),
]
# Values that hold a picture: `==` does not work with their copies.
PICTURES = [gramophone.Style(Image.new("L", (9, 9), 3)), gramophone.Style(np.ones((4, 5, 3), np.uint8), 1.5)]
ERRORS: list[GramophoneError] = [
    GramophoneError("base"),
    gramophone.InvalidRequestError("two fields are wrong", VIOLATIONS),
    gramophone.NotFoundError("no such job", VIOLATIONS[:1]),
    gramophone.OverloadedError("no room", 1.5),
    gramophone.OverloadedError("no room"),
    gramophone.UnauthenticatedError("who is it?"),
    gramophone.UnavailableError("nobody there"),
    gramophone.DeadlineError("too late"),
    gramophone.ServerError("a bug", "INTERNAL"),
    gramophone.JobFailedError("job-1", "no memory", 9),
    gramophone.JobCancelledError("job-1"),
]
# Public classes that are neither values nor errors of the service.
OTHERS = {
    "Accepted", "Attempts", "Bar", "BaseConnection", "Batch", "Brief", "Download", "GroupedCommand", "GroupedOption",
    "History", "InputDownload", "JobFilters", "JobWidget", "KnownUploads", "LoopStubs", "MetadataChannel",
    "NotPicklable", "Options", "Pages", "ProcessStubs", "Reader", "Refused", "StreamEndedError", "Stubs",
    "UploadingRequest", "Value", "View", "WidgetView",
}  # fmt: skip
ROOTED = {gramophone.Client, gramophone.Job, aio.Client, aio.Job, gramophone.EmbeddedServer}


def classes() -> set[type]:
    """Returns all public classes of the package except those of the command line and of generated code."""
    found: set[type] = {cls for name in gramophone.__all__ if inspect.isclass(cls := getattr(gramophone, name))}
    for module in pkgutil.walk_packages(gramophone.__path__, "gramophone."):
        if set(module.name.split(".")) & {"cli", "v1", "__main__", "_sync", "_async"}:
            continue
        for name, member in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(member) and member.__module__ == module.name and not name.startswith("_"):
                found.add(member)
    return found


def roundtrips(value: Any) -> list[Any]:
    """Returns the copies of a value by each pickle protocol, copy and deepcopy."""
    pickled = [pickle.loads(pickle.dumps(value, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    return [*pickled, copy.copy(value), copy.deepcopy(value)]


def test_every_public_class_has_an_example():
    examples = {type(value) for value in (*VALUES, *ERRORS)}
    left = {cls for cls in classes() - examples - ROOTED if cls.__name__ not in OTHERS}
    assert left == set(), "these classes need an example in VALUES or ERRORS, or an entry in OTHERS"
    assert {cls for cls in classes() if is_dataclass(cls)} <= examples
    assert {cls for cls in classes() if issubclass(cls, GramophoneError)} <= examples


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_survive_pickle_and_copies(value):
    for again in roundtrips(value):
        assert type(again) is type(value)
        assert again == value
        assert repr(again) == repr(value)


@pytest.mark.parametrize("value", PICTURES, ids=["image", "array"])
def test_styles_with_pictures_survive_pickle_and_copies(value):
    for again in roundtrips(value):
        assert type(again.image) is type(value.image)
        assert np.array_equal(np.asarray(again.image), np.asarray(value.image))
        assert (again.weight, repr(again)) == (value.weight, repr(value))


def test_copies_decode_their_pictures_again():
    for value, name in ((copy.copy(RESULT), "image"), (copy.copy(FRAME), "preview")):
        pixels = np.asarray(getattr(value, name))
        for again in roundtrips(value):
            assert name not in vars(again)
            assert again == value
            assert np.array_equal(np.asarray(getattr(again, name)), pixels)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_survive_pickle_and_copies(error):
    error = copy.copy(error)
    error.add_note("while painting")
    error.mine = [1]
    for again in roundtrips(error):
        assert type(again) is type(error)
        assert again.args == error.args
        assert str(again) == str(error)
        assert vars(again) == vars(error)
        assert again.__notes__ == ["while painting"]


class Special(gramophone.ServerError):
    """An error class that a program derives, with its own __init__."""

    def __init__(self, number: int) -> None:
        super().__init__(f"number {number}", "UNKNOWN")
        self.number = number


def test_derived_errors_survive_pickle_and_copies():
    for again in roundtrips(Special(3)):
        assert (type(again), str(again), again.number, again.code) == (Special, "number 3", 3, "UNKNOWN")


def raise_or_return(number: int) -> Any:
    """Raises one of ERRORS or returns one of VALUES, in a process of a pool."""
    if number < len(ERRORS):
        raise ERRORS[number] from ValueError("its cause")
    return VALUES[number - len(ERRORS)]


def test_values_and_errors_pass_between_processes_of_a_pool():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(raise_or_return, number) for number in range(len(ERRORS) + len(VALUES))]
        for future, error in zip(futures, ERRORS, strict=False):
            raised = future.exception(60)
            assert (type(raised), str(raised)) == (type(error), str(error))
            assert {name: raised.__dict__[name] for name in error.__dict__} == error.__dict__
        assert [future.result(60) for future in futures[len(ERRORS) :]] == VALUES
        handed_in = [pool.submit(type, value) for value in (*VALUES, *ERRORS)]
        assert [future.result(60) for future in handed_in] == [type(value) for value in (*VALUES, *ERRORS)]


async def test_pickling_a_client_or_job_is_an_error_that_says_what_to_send(flaky):
    async with aio.Client(flaky.address) as two:
        with gramophone.Client(flaky.address) as one:
            rooted = [one, one.style(b"picture"), two, await two.style(b"picture"), gramophone.EmbeddedServer()]
            assert {type(each) for each in rooted} == ROOTED
            for each in rooted:
                for attempt in (*(lambda n=n, e=each: pickle.dumps(e, n) for n in range(6)),
                                lambda e=each: copy.copy(e), lambda e=each: copy.deepcopy([e])):  # fmt: skip
                    with pytest.raises(TypeError, match=f"a {type(each).__name__} cannot be pickled or copied: \\w+"):
                        attempt()
            with pytest.raises(TypeError, match=r"send job\.id, and call client\.job"):
                pickle.dumps(rooted[1])


@pytest.mark.parametrize("value", [*VALUES, *PICTURES], ids=lambda value: type(value).__name__)
def test_representations_are_short_and_hide_secrets(value):
    text = repr(value)
    assert text.startswith(f"{type(value).__name__}(")
    assert len(text) < 200
    assert SECRET not in text
    assert "\\x" not in text
    assert str(value) == text


def test_representations_show_the_main_fields():
    assert repr(RESULT) == f"Result(24x16, loss=12.5, iterations=300, model='vgg19-slim', data={len(PICTURE):,} bytes)"
    assert "iteration=4" in repr(FRAME) and "loss=12345.7" in repr(FRAME) and "preview_bytes=8" in repr(FRAME)
    info = next(value for value in VALUES if isinstance(value, gramophone.JobInfo))
    for part in ("ab" * 15, "transfer", "failed", "4/300", "no memory"):
        assert part in repr(info)
    assert repr(gramophone.LayerLoss("style", "conv1_1", 1.5, 0.2)) == (
        "LayerLoss(kind='style', layer='conv1_1', loss=1.5, weight=0.2, region=None, style_loss='')"
    )
    assert repr(gramophone.Style("starry.jpg", 2)) == (
        "Style(image='starry.jpg', weight=2, scale=None, mask=None, source_mask=None, source_map=None)"
    )
    assert "<Image L 9x9>" in repr(PICTURES[0])
    assert "<ndarray uint8 4x5x3>" in repr(PICTURES[1])


def test_representations_of_clients_and_jobs_show_target_id_and_state(flaky, connect):
    client = connect(flaky.address, token=SECRET)
    job = client.style(b"picture")
    inner = [getattr(each, "_inner", each) for each in (client, job)]
    assert repr(inner[0]) == f"Client(target='{flaky.address}')"
    assert repr(inner[1]) == f"Job(id='{job.id}', state='queued')"
    job.result()
    client.close()
    assert repr(inner[1]) == f"Job(id='{job.id}', state='succeeded')"
    for each in (*inner, inner[0]._connection):
        assert SECRET not in repr(each)
        assert len(repr(each)) < 200


@pytest.mark.parametrize("cls", sorted(ROOTED | {type(v) for v in (*VALUES, *ERRORS)}, key=str), ids=str)
def test_objects_without_init_have_a_representation(cls):
    assert repr(cls.__new__(cls))


def test_representations_do_not_need_a_valid_picture():
    broken = gramophone.Frame(1, 2, float("nan"), (), 0, 0, 0, b"no picture")
    assert "preview_bytes=10 bytes" in repr(broken)
    assert "loss=nan" in repr(broken)
    odd = gramophone.Result(b"", 0, (), 0, "m" * 999, {}, gramophone.Timings(0, 0, 0))
    assert len(repr(odd)) < 200


def test_values_of_any_type_are_described_briefly():
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError

    assert len(described([1] * 10**6)) < 20
    assert len(described("x" * 10**6)) < 100
    assert described(memoryview(b"12")) == "2 bytes"
    assert repr(gramophone.Style(io.BytesIO(b"abc")))
    assert repr(gramophone.Style(cast(Any, Hostile())))
    assert issubclass(Value, Brief) and issubclass(NotPicklable, Brief)
