"""Generate the Python stubs of proto/ into a folder: `python proto/generate.py [FOLDER]` (default: the SDK)."""

import os
import subprocess
import sys
from pathlib import Path

PROTO = Path(__file__).resolve().parent
SDK = PROTO.parent / "sdk"


def generate(out: Path) -> None:
    """Write messages, services and their typed .pyi below `out`, which must exist."""
    messages = sorted(str(p.relative_to(PROTO)) for p in PROTO.glob("gramophone/v1/*.proto"))
    services = [p for p in messages if p.endswith("_service.proto")]
    for sources, plugins in ((messages, ("python", "mypy")), (services, ("grpc_python", "mypy_grpc"))):
        outputs = [f"--{plugin}_out={'quiet:' if 'mypy' in plugin else ''}{out}" for plugin in plugins]
        # The environment's own plugins, whether or not it is activated.
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, *sources]
        subprocess.run(command, cwd=PROTO, check=True, env=os.environ | {"PATH": path})
    (out / "gramophone/v1/__init__.py").write_text('"""Generated from proto/ by `make proto`; do not edit."""\n')


if __name__ == "__main__":
    generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else SDK)
