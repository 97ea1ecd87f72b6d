"""Generate from proto/: the stubs, the options of the SDK, the server and the web page, and their reference page.

Usage: `python proto/generate.py [ROOT]`. ROOT is a folder laid out like the repository; default: the repository.
"""

import os
import subprocess
import sys
from pathlib import Path

from contract import Contract
from options import reference, sdk_module, server_module
from page import page_module

PROTO = Path(__file__).resolve().parent


def generate(root: Path) -> None:
    """Write all generated files below `root`; create missing folders."""
    stubs(root / "sdk")
    contract = Contract(PROTO)
    for name, text in (
        ("sdk/gramophone/options.py", sdk_module(contract)),
        ("server/gramophone_server/messages/options.py", server_module(contract)),
        ("docs/reference/options.md", reference(contract)),
        ("web/page/src/contract.ts", page_module(contract)),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.suffix == ".py":
            command = [
                sys.executable,
                "-m",
                "ruff",
                "format",
                "--quiet",
                "--config",
                PROTO.parent / "pyproject.toml",
                path,
            ]
            subprocess.run(command, check=True)


def stubs(out: Path) -> None:
    """Write the modules of messages and services, and their .pyi files, below `out`."""
    out.mkdir(parents=True, exist_ok=True)
    messages = sorted(str(p.relative_to(PROTO)) for p in PROTO.glob("gramophone/v1/*.proto"))
    services = [p for p in messages if p.endswith("_service.proto")]
    for sources, plugins in ((messages, ("python", "mypy")), (services, ("grpc_python", "mypy_grpc"))):
        outputs = [f"--{plugin}_out={'quiet:' if 'mypy' in plugin else ''}{out}" for plugin in plugins]
        # Find the plugins of this interpreter's virtual environment, even if it is not activated.
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, *sources]
        subprocess.run(command, cwd=PROTO, check=True, env=os.environ | {"PATH": path})
    (out / "gramophone/v1/__init__.py").write_text('"""Generated from proto/ by `make proto`; do not edit."""\n')


if __name__ == "__main__":
    generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else PROTO.parent)
