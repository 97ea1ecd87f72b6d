"""Runs the commands of docs/security.md one after the other, with other ports."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import gramophone

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "security.md").read_text()
COMMAND = f'gramophone() {{ "{sys.executable}" -m gramophone "$@"; }}\n'


def serve(command: str, folder: Path, stack: ExitStack) -> str:
    """Starts the server of a command on a free port; returns the port."""
    command = re.sub(r"--port \d+", "--port 0 --until-stdin-closes", command)
    process = subprocess.Popen(
        ["bash", "-c", COMMAND + command], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    stack.callback(process.wait, 20)
    stack.callback(process.stdin.close)
    line = process.stdout.readline()
    assert line.startswith("serving on 0.0.0.0:"), command
    return line.strip().rpartition(":")[2]


@pytest.mark.skipif(not shutil.which("openssl") or not shutil.which("bash"), reason="openssl or bash is not installed")
def test_the_commands_and_the_python_example_run(tmp_path: Path) -> None:
    ports: dict[str, str] = {}
    environment = dict(os.environ)
    listed = 0
    with ExitStack() as stack:
        for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL):
            commands = block.replace("\\\n", " ")
            for given, taken in ports.items():
                commands = commands.replace(f"localhost:{given}", f"localhost:{taken}")
            before, _, serving = commands.partition("gramophone serve")
            # The next blocks use the variable that this block exports.
            script = f"set -e\n{COMMAND}{before}\nprintf 'TOKEN=%s' \"$GRAMOPHONE_TOKEN\""
            done = subprocess.run(
                ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment
            )
            assert done.returncode == 0, (before, done.stderr)
            environment["GRAMOPHONE_TOKEN"] = done.stdout.rpartition("TOKEN=")[2]
            listed += "jobs list" in before
            if serving:
                (port,) = re.findall(r"--port (\d+)", serving)
                ports[port] = serve("gramophone serve" + serving, tmp_path, stack)
        assert len(ports) == listed == 2
        assert (tmp_path / "alice.token").stat().st_mode & 0o077 == 0
        token = (tmp_path / "alice.token").read_text().strip()
        (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        (call,) = re.findall(r"^client = gramophone.Client\((.*)\)$", code, re.MULTILINE)
        assert call == '"localhost:50051", token=token, root_certificates="ca.pem"'
        with gramophone.Client(
            f"localhost:{ports['50051']}", token=token, root_certificates=tmp_path / "ca.pem"
        ) as client:
            assert client.models()
