"""The client in examples/node, which loads the .proto files at run time, against a real server."""

import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.clients.toolchains import REPOSITORY, npm_install
from tests.harness import ServerProcess, png


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the client with its packages installed."""
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(REPOSITORY / "examples/node", folder, ignore=shutil.ignore_patterns("node_modules"))
    npm_install(folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(png(64, 48))
    return path


def run(client: Path, *args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["node", "client.mjs", *map(str, args)]
    env = {"GRAMOPHONE_PROTO": str(REPOSITORY / "proto"), "PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=client, env=env | environment, capture_output=True, text=True, timeout=120)


def test_streams_events_and_writes_the_picture(client: Path, server: ServerProcess, picture: Path) -> None:
    out = picture.with_name("out.png")
    done = run(client, server.address, picture, out, "--size", 32, "--iterations", 30, "--layer", "conv1_1")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["state"] for event in events[:2]] == ["QUEUED", "RUNNING"]
    progress = [event for event in events if "iteration" in event]
    # A slow reader may miss earlier reports, but never the latest.
    assert progress[-1]["iteration"] == 30
    assert progress[-1]["preview_bytes"] > 0
    assert events[-1]["state"] == "SUCCEEDED"
    assert events[-1]["loss"] < progress[0]["loss"] or len(progress) == 1
    assert [event["sequence"] for event in events] == sorted({event["sequence"] for event in events})
    image = Image.open(io.BytesIO(out.read_bytes()))
    assert (image.format, image.size) == ("PNG", (32, 32))
    assert out.stat().st_size == events[-1]["bytes"]


def test_fetches_a_large_result_with_the_default_limits(client: Path, server: ServerProcess, picture: Path) -> None:
    out = picture.with_name("out.png")
    done = run(client, server.address, picture, out, "--size", 2048, "--iterations", 1, "--layer", "conv1_1")
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size == json.loads(done.stdout.splitlines()[-1])["bytes"] > 6_000_000
    with Image.open(out) as image:
        assert image.size == (2048, 2048)


def test_same_bytes_as_python(client: Path, server: ServerProcess, picture: Path) -> None:
    from gramophone.v1 import options_pb2
    from gramophone.v1 import style_transfer_service_pb2 as pb

    out = picture.with_name("out.png")
    done = run(client, server.address, picture, out, "--size", 32, "--iterations", 5, "--seed", 7)
    assert done.returncode == 0, done.stderr
    request = pb.ReconstructStyleRequest(
        styles=[options_pb2.StyleSource(image=options_pb2.InputImage(data=picture.read_bytes()))],
        options=options_pb2.SynthesisOptions(size=32, iterations=5, seed=7),
    )
    *_, last = server.style.ReconstructStyle(request)
    with Image.open(out) as ours, Image.open(io.BytesIO(last.event.result.image.data)) as theirs:
        assert ours.tobytes() == theirs.tobytes()


def test_names_the_wrong_fields(client: Path, server: ServerProcess, picture: Path) -> None:
    out = picture.with_name("out.png")
    done = run(client, server.address, picture, out, "--size", 5, "--iterations", 0)
    assert done.returncode == 1
    assert not out.exists()
    error = json.loads(done.stderr)
    assert error["code"] == "INVALID_ARGUMENT"
    assert {violation["field"] for violation in error["violations"]} == {"options.size", "options.iterations"}
    assert all(violation["description"] for violation in error["violations"])


def test_says_that_no_server_answers(client: Path, picture: Path) -> None:
    done = run(client, "127.0.0.1:1", picture, picture.with_name("out.png"), "--size", 32)
    assert done.returncode == 1
    assert json.loads(done.stderr)["code"] == "UNAVAILABLE"


def test_the_example_of_the_readme_runs(client: Path, server: ServerProcess, tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    (code,) = re.findall(r"```js\n(.*?)```", readme, re.DOTALL)
    code = code.replace("localhost:50051", server.address).replace("size: 512", "size: 32, iterations: 3")
    code = code.replace('"out.png"', json.dumps(str(tmp_path / "out.png")))
    (client / "night.jpg").write_bytes(png())
    (client / "readme.mjs").write_text(code)
    done = subprocess.run(
        ["node", "readme.mjs"],
        cwd=client,
        env={"GRAMOPHONE_PROTO": str(REPOSITORY / "proto"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2] == "3"
    with Image.open(tmp_path / "out.png") as out:
        assert out.size == (32, 32)
