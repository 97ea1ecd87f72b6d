"""The TypeScript client as a package, by the example in examples/node, against a real server."""

import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

import gramophone
from gramophone_server.security.tokens import add_token
from tests.certificates import Authority
from tests.clients.toolchains import REPOSITORY, checked, npm_install
from tests.harness import ServerProcess, png


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with the packed client installed."""
    folder = tmp_path_factory.mktemp("node")
    leave = shutil.ignore_patterns("node_modules", "dist", "*.tsbuildinfo")
    shutil.copytree(REPOSITORY / "web", folder / "web", ignore=leave)
    npm_install(folder / "web", "--workspace", "client")
    checked("npm", "pack", "--workspace", "client", "--pack-destination", folder, cwd=folder / "web")
    (package,) = folder.glob("*.tgz")
    shutil.copytree(REPOSITORY / "examples/node", folder / "example", ignore=leave)
    description = json.loads((folder / "example/package.json").read_text())
    description["dependencies"]["@gramophone/client"] = f"file:{package}"
    (folder / "example/package.json").write_text(json.dumps(description))
    npm_install(folder / "example")
    return folder / "example"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(png(64, 48))
    return path


def run(client: Path, *args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["node", "paint.mjs", *map(str, args)]
    env = {"PATH": os.environ["PATH"]} | environment
    return subprocess.run(command, cwd=client, env=env, capture_output=True, text=True, timeout=120)


def events(done: subprocess.CompletedProcess[str]) -> list[dict]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_streams_events_and_writes_the_picture(client: Path, server: ServerProcess, picture: Path) -> None:
    out = picture.with_name("out.png")
    told = events(run(client, server.address, picture, out, "--size", 32, "--iterations", 30, "--layer", "conv1_1"))
    assert [event["state"] for event in told[:2]] == ["QUEUED", "RUNNING"]
    progress = [event for event in told if "iteration" in event]
    # A slow reader may miss earlier reports, but never the latest.
    assert progress[-1]["iteration"] == 30
    assert progress[-1]["preview_bytes"] > 0
    assert told[-1]["state"] == "SUCCEEDED"
    assert told[-1]["loss"] < progress[0]["loss"] or len(progress) == 1
    assert [event["sequence"] for event in told] == sorted({event["sequence"] for event in told})
    image = Image.open(io.BytesIO(out.read_bytes()))
    assert (image.format, image.size) == ("PNG", (32, 32))
    assert out.stat().st_size == told[-1]["bytes"]


def test_fetches_a_large_result_with_the_default_limits(client: Path, server: ServerProcess, picture: Path) -> None:
    out = picture.with_name("out.png")
    told = events(run(client, server.address, picture, out, "--size", 2048, "--iterations", 1, "--layer", "conv1_1"))
    assert out.stat().st_size == told[-1]["bytes"] > 6_000_000
    with Image.open(out) as image:
        assert image.size == (2048, 2048)


def test_transfers_a_style_and_gives_the_same_file_as_python(
    client: Path, server: ServerProcess, picture: Path
) -> None:
    out, content = picture.with_name("out.png"), picture.with_name("content.png")
    content.write_bytes(png(48, 48))
    arguments = "--content", content, "--size", 32, "--iterations", 5, "--seed", 7
    told = events(run(client, server.address, picture, out, *arguments))
    with gramophone.Client(server.address) as python:
        assert python.job(told[-1]["job"]).download() == out.read_bytes()
        theirs = python.transfer(content, picture, size=32, iterations=5, seed=7).result()
    with Image.open(out) as ours:
        assert ours.tobytes() == theirs.image.tobytes()


def test_follows_an_earlier_job_again(client: Path, server: ServerProcess, picture: Path) -> None:
    out = picture.with_name("out.png")
    with gramophone.Client(server.address) as python:
        job = python.style(picture, size=32, iterations=3)
        told = events(run(client, server.address, picture, out, "--job", job.id))
        assert {event["job"] for event in told} == {job.id}
        assert job.download() == out.read_bytes()


def test_names_the_wrong_fields(client: Path, server: ServerProcess, picture: Path) -> None:
    out = picture.with_name("out.png")
    done = run(client, server.address, picture, out, "--size", 5, "--iterations", 0)
    assert done.returncode == 1
    assert not out.exists()
    error = json.loads(done.stderr)
    assert error["name"] == "InvalidRequestError"
    assert {violation["field"] for violation in error["violations"]} == {"options.size", "options.iterations"}
    assert all(violation["description"] for violation in error["violations"])


def test_says_that_no_server_answers(client: Path, picture: Path) -> None:
    out = picture.with_name("out.png")
    done = run(client, "127.0.0.1:1", picture, out, "--size", 32, GRAMOPHONE_RETRY_FOR="0")
    assert done.returncode == 1
    assert json.loads(done.stderr)["name"] == "UnavailableError"


def test_uses_tls_and_a_token(client: Path, picture: Path, tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("localhost").write(tmp_path, "server")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate)
    tokens = tmp_path / "tokens.json"
    token = add_token(tokens, "node", admin=False)
    secure = "--tls-certificate", certificate, "--tls-key", key, "--tokens", str(tokens)
    with ServerProcess(*secure, credentials=authority.trust()) as server:
        address = f"localhost:{server.address.rpartition(':')[2]}"
        arguments = address, picture, tmp_path / "out.png", "--size", 32, "--iterations", 3, "--ca", ca
        refused = run(client, *arguments)
        assert json.loads(refused.stderr)["name"] == "UnauthenticatedError"
        told = events(run(client, *arguments, GRAMOPHONE_TOKEN=token))
        assert told[-1]["state"] == "SUCCEEDED"


def test_the_example_of_the_readme_runs(client: Path, server: ServerProcess, tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text()
    (code,) = re.findall(r"```js\n(.*?)```", readme, re.DOTALL)
    code = code.replace("localhost:50051", server.address).replace("size: 512", "size: 32, iterations: 3")
    code = code.replace('"out.png"', json.dumps(str(tmp_path / "out.png")))
    (client / "night.jpg").write_bytes(png())
    (client / "readme.mjs").write_text(code)
    printed = checked("node", "readme.mjs", cwd=client, timeout=120)
    assert printed.split()[-2] == "3"
    with Image.open(tmp_path / "out.png") as out:
        assert out.size == (32, 32)
