"""Prints the packages that an image needs, one a line: `python requirements.py cpu|cuda EXTRA ... [--only torch]`.

The extra `server` names the ONNX Runtime that needs CUDA, because no marker can tell whether a machine has a GPU; with
`cpu` the list has the other one.
"""

import re
import sys
import tomllib
from pathlib import Path

_NAME = re.compile(r"[\w.-]+(\[[\w,.-]+\])?")


def requirements(device: str, extras: list[str], project: Path = Path("pyproject.toml")) -> list[str]:
    """Returns the requirements of the project with these extras.

    Args:
        device: "cpu" or "cuda".

    Raises:
        KeyError: there is no such extra.
    """
    table = tomllib.loads(project.read_text())["project"]
    lines = [*table["dependencies"], *(line for extra in extras for line in table["optional-dependencies"][extra])]
    # Extras that include another one, such as postgres, name the project itself.
    lines = [line for line in lines if not line.startswith(f"{table['name']}[")]
    if device == "cpu":
        lines = [line.partition(";")[0] if name(line) == "onnxruntime" else line for line in lines]
        lines = [line for line in lines if name(line) != "onnxruntime-gpu"]
    return lines


def name(line: str) -> str:
    """Returns the name of the package that a requirement is about."""
    found = _NAME.match(line)
    return found[0] if found else ""


if __name__ == "__main__":
    device, *extras = sys.argv[1:]
    if device not in ("cpu", "cuda"):
        sys.exit(f"the device is cpu or cuda, not {device!r}")
    only = extras.pop() if "--only" in extras else None
    found = requirements(device, [extra for extra in extras if extra != "--only"])
    print("\n".join(line for line in found if only in (None, name(line))))
