"""Runs scripts of `tests/cuda/scripts` with a CUDA device that computes nothing; see tests/fake_cuda/README.md.

The tests skip where torch is a build without CUDA or where there is no C++ compiler.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
_RUN = _ROOT / "tests/fake_cuda/run"
_SCRIPTS = Path(__file__).parent / "scripts"

Script = Callable[..., Any]


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> dict[str, str]:
    """The environment of processes with the fake device, which is built first."""
    library = Path(sysconfig.get_path("purelib")) / "torch/lib/libtorch_cuda.so"
    if not library.exists() or shutil.which("g++") is None or shutil.which("nm") is None:
        pytest.skip("the fake CUDA device needs a CUDA build of torch, g++ and nm")
    folder = tmp_path_factory.mktemp("fake-cuda")
    subprocess.run([_ROOT / "tests/fake_cuda/build", sys.executable, folder], check=True, capture_output=True)
    paths = [str(_ROOT), *(str(_ROOT / part) for part in ("sdk", "server", "export")), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "FAKECUDA_BUILD": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def run_script(built: dict[str, str], name: str, *args: object, **environment: str) -> Any:
    """Runs a script with arguments and the fake device, and returns the JSON of its last line."""
    command: list[str | Path] = [_RUN, sys.executable, _SCRIPTS / f"{name}.py", *map(str, args)]
    done = subprocess.run(command, env={**built, **environment}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def script(built) -> Script:
    """`run_script` with the fake device."""
    return partial(run_script, built)
