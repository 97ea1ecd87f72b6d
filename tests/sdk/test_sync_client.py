"""The synchronous client is generated from the asynchronous one, and both have the same public methods."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import gramophone
from gramophone import aio

ROOT = Path(__file__).resolve().parents[2]
ASYNC_ONLY = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__"}
PAIRS = [(aio.Client, gramophone.Client), (aio.Job, gramophone.Job)]


def test_the_committed_client_is_what_the_generator_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "sdk/make_sync.py", tmp_path], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "_sync").iterdir()}
    assert set(made) == {"client.py", "connection.py", "job.py"}
    stale = [name for name, text in made.items() if (ROOT / "sdk/gramophone/_sync" / name).read_text() != text]
    assert not stale, "run `make sync`"


@pytest.mark.parametrize(("asynchronous", "synchronous"), PAIRS, ids=["Client", "Job"])
def test_both_have_the_same_methods_with_the_same_arguments(asynchronous: type, synchronous: type) -> None:
    def surface(of: type) -> dict[str, list[str]]:
        found = {name: value for name, value in vars(of).items() if not name.startswith("_") or name in ASYNC_ONLY}
        return {
            ASYNC_ONLY.get(name, name): list(inspect.signature(value).parameters) if callable(value) else []
            for name, value in found.items()
        }

    expected = surface(asynchronous)
    assert len(expected) > 5
    for name, arguments in expected.items():
        twin = vars(synchronous)[name]
        assert (list(inspect.signature(twin).parameters) if callable(twin) else []) == arguments


@pytest.mark.parametrize(("asynchronous", "synchronous"), PAIRS, ids=["Client", "Job"])
def test_docstrings_match_the_kind_of_client(asynchronous: type, synchronous: type) -> None:
    for name, value in vars(synchronous).items():
        text = inspect.getdoc(value) or ""
        assert "async" not in text and "await" not in text, name
    assert "async with" in (inspect.getdoc(asynchronous) or "async with") or asynchronous is aio.Job
