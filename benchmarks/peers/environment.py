"""The virtual environment of the peers: separate packages, but the same versions of torch and torchvision as ours."""

import json
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent.parent / ".peers"
READY = DIRECTORY / "ready.json"  # written last: without it the creation was interrupted
PEERS = ("neural-style", "pystiche")


def peer_python() -> Path:
    """Returns the Python interpreter of the peers' environment.

    The function creates the environment if it does not exist, is incomplete, or has other versions.
    """
    python = DIRECTORY / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    # Use only the public part of a version: package indexes may not have local builds such as +cpu.
    versions = {name: version(name).partition("+")[0] for name in ("torch", "torchvision")}
    versions["python"] = ".".join(map(str, sys.version_info[:3]))
    if _state().get("versions") == versions and python.exists():
        return python
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    venv.create(DIRECTORY, with_pip=True)
    pinned = [f"{name}=={versions[name]}" for name in ("torch", "torchvision")]
    if problem := _install(python, pinned):
        raise RuntimeError(f"The environment of the peers could not be created: {problem}")
    problems = {peer: _install(python, [peer, *pinned]) for peer in PEERS}
    READY.write_text(json.dumps({"versions": versions, "problems": problems}, indent=2) + "\n")
    return python


def available(name: str) -> bool:
    """Returns whether a peer, by its package name, is installed; creates the environment if necessary."""
    return problem(name) is None


def problem(name: str) -> str | None:
    """Returns pip's error message if a peer could not be installed; None if it is installed."""
    peer_python()
    return _state()["problems"].get(name, f"{name} is not one of {PEERS}")


def _state() -> dict:
    try:
        return json.loads(READY.read_text())
    except (OSError, ValueError):
        return {}


def _install(python: Path, requirements: list[str]) -> str | None:
    """Installs requirements with pip; returns None on success, else the end of pip's error message."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return done.stderr.strip()[-1000:] or f"exit status {done.returncode}" if done.returncode else None


if __name__ == "__main__":
    print(peer_python())
