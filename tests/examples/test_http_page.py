"""Runs the curl commands of docs/http.md one after the other against a real server."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.harness import ServerProcess, png

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "http.md").read_text()


@pytest.mark.skipif(not shutil.which("curl") or not shutil.which("bash"), reason="curl or bash is not installed")
def test_the_commands_submit_follow_and_fetch(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "night.png").write_bytes(png(seed=21))
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 6
    (tmp_path / "script").write_text("".join(f"{block}\necho '=== end'\n" for block in blocks))
    text = (tmp_path / "script").read_text().replace("http://127.0.0.1:8080", server.url)
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    uploaded, submitted, followed, listed, refused, state = done.stdout.split("=== end\n")[:6]
    assert json.loads(uploaded)["size"] == (tmp_path / "night.png").stat().st_size
    job_id = json.loads(submitted)["jobId"]
    states = [json.loads(line[6:])["state"] for line in followed.splitlines() if line.startswith("data: ")]
    assert (states[0], states[-1]) == ("JOB_STATE_QUEUED", "JOB_STATE_SUCCEEDED")
    assert Image.open(tmp_path / "painted.png").size == (64, 64)
    assert Image.open(tmp_path / "small.jpg").format == "JPEG"
    assert job_id in listed
    assert "vgg19-slim" in listed
    error = json.loads(refused)
    (shown,) = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    shown["details"][0]["value"] = error["details"][0]["value"]
    assert error == shown
    assert "upload-complete: ?1" in state
