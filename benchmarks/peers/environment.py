"""The peers' virtual environment: their packages stay out of ours, the versions of torch and torchvision are ours."""

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
    """Python of the peers' environment, which the first call makes; one unfinished or of another torch is made anew."""
    python = DIRECTORY / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    # The public part of a version is enough for pip, and is found where a build such as +cpu is not.
    versions = {name: version(name).partition("+")[0] for name in ("torch", "torchvision")}
    versions["python"] = ".".join(map(str, sys.version_info[:3]))
    if _state().get("versions") == versions and python.exists():
        return python
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    venv.create(DIRECTORY, with_pip=True)
    pinned = [f"{name}=={versions[name]}" for name in ("torch", "torchvision")]
    if problem := _install(python, pinned):
        raise RuntimeError(f"The peers' environment could not be made: {problem}")
    problems = {peer: _install(python, [peer, *pinned]) for peer in PEERS}
    READY.write_text(json.dumps({"versions": versions, "problems": problems}, indent=2) + "\n")
    return python


def available(name: str) -> bool:
    """Whether a peer, by its package name, is installed; makes the environment if there is none yet."""
    return problem(name) is None


def problem(name: str) -> str | None:
    """What pip said when a peer did not install; None if it did."""
    peer_python()
    return _state()["problems"].get(name, f"{name} is none of {PEERS}")


def _state() -> dict:
    try:
        return json.loads(READY.read_text())
    except (OSError, ValueError):
        return {}


def _install(python: Path, requirements: list[str]) -> str | None:
    """None if pip installed the requirements, else the end of its complaint."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return done.stderr.strip()[-1000:] or f"exit status {done.returncode}" if done.returncode else None


if __name__ == "__main__":
    print(peer_python())
