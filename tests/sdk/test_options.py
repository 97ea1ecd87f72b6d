"""The type gramophone.Options at run time, in pydantic, and under type checkers."""

import json
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pydantic
import pytest

import gramophone
from gramophone.options import OPTIONS

# Calls, and whether a type checker must accept them.
CALLS = {
    'client.style("a.png", optimizer="lbfgs", size=64)': True,
    'client.style("a.png", optimizer="lbfgs", init=b"picture")': True,
    'client.estimate("style", "a.png")': True,
    'client.jobs(states=["running"], kinds=["style"], order="oldest_first")': True,
    'client.style("a.png", optimizer="lbgfs")': False,
    'client.style("a.png", fit="squarre")': False,
    'client.style("a.png", sise=64)': False,
    'client.style("a.png", size="64")': False,
    'client.style("a.png", preview_format="tiff")': False,
    'client.content("a.png", init="style")': True,  # the path of a picture
    'client.transfer("a.png", "b.png", on_disconnect="stay")': False,
    'client.estimate("stile", "a.png")': False,
    'client.jobs(states=["runing"])': False,
    'client.jobs(order="newest")': False,
    'client.features("a.png", ["conv1_1"], kind="grams")': False,
}


def module(asynchronous: bool) -> str:
    """Returns a module with one call of CALLS per line."""
    client = "gramophone.aio.Client" if asynchronous else "gramophone.Client"
    head = f"import gramophone\n\n{'async ' if asynchronous else ''}def use(client: {client}) -> None:\n"
    return head + "".join(f"    {'await ' * (asynchronous and 'jobs' not in call)}{call}\n" for call in CALLS)


def expected() -> set[int]:
    """Returns the line numbers of the calls that a type checker must refuse."""
    return {number for number, accepted in enumerate(CALLS.values(), start=4) if not accepted}


def test_type_hints_of_options_resolve_at_run_time():
    hints = typing.get_type_hints(gramophone.Options)
    assert set(hints) == {option.name for option in OPTIONS}
    assert hints["size"] is int and typing.get_args(hints["optimizer"]) == ("lbfgs", "adam")


def test_options_work_as_a_pydantic_request_body():
    adapter = pydantic.TypeAdapter(gramophone.Options)
    assert adapter.validate_python({"size": 64, "fit": "square"}) == {"size": 64, "fit": "square"}
    schema = adapter.json_schema()
    assert set(schema["properties"]) == {option.name for option in OPTIONS}
    for wrong in ({"fit": "squarre"}, {"size": "big"}):
        with pytest.raises(pydantic.ValidationError):
            adapter.validate_python(wrong)


def test_a_request_body_cannot_name_a_file_of_the_server(tmp_path):
    """A picture in a body is bytes: no string in it becomes a path that the SDK would open."""
    value = pydantic.TypeAdapter(gramophone.Options).validate_python({"init": str(tmp_path / "a.png")})["init"]
    assert isinstance(value, bytes)


@pytest.fixture(scope="module")
def mypy(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """Runs mypy on a module for each client, use_False.py and use_True.py."""
    folder = tmp_path_factory.mktemp("mypy")
    paths = [folder / f"use_{asynchronous}.py" for asynchronous in (False, True)]
    paths[0].write_text(module(asynchronous=False))
    paths[1].write_text(module(asynchronous=True))
    options = ["--strict", "--config-file", "", "--cache-dir", str(folder)]
    command = [sys.executable, "-m", "mypy", *options, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(gramophone.__file__).parents[1])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_mypy_finds_each_wrong_word(mypy: subprocess.CompletedProcess[str], asynchronous: bool) -> None:
    found = {int(line) for line in re.findall(rf"/use_{asynchronous}\.py:(\d+):", mypy.stdout)}
    assert found == expected(), mypy.stdout + mypy.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npx") is None, reason="there is no npx (it comes with Node.js) to run pyright with")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_pyright_finds_each_wrong_word(tmp_path: Path, asynchronous: bool) -> None:
    sdk = Path(gramophone.__file__).parents[1]
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(sdk)], "pythonVersion": "3.11"}))
    (tmp_path / "use.py").write_text(module(asynchronous))
    command = ["npx", "--yes", "pyright@1", "--outputjson", "--pythonpath", sys.executable, "use.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    found = {1 + error["range"]["start"]["line"] for error in json.loads(done.stdout)["generalDiagnostics"]}
    assert found == expected(), done.stdout + done.stderr
