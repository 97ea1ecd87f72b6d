"""Clients in other languages, generated from the .proto files alone, run a job with gRPC's defaults.

test_node.py tests the Node.js client that loads the .proto files at run time.
"""

import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.clients.toolchains import BUILDERS
from tests.harness import ServerProcess, png

pytestmark = pytest.mark.slow

_built: dict[str, list[str]] = {}


@pytest.fixture(params=list(BUILDERS))
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of a client, which is built once per run."""
    language: str = request.param
    if language not in _built:
        _built[language] = BUILDERS[language](tmp_path_factory.mktemp(language))
    return _built[language]


# The large result takes more than 6 MB: it is nearly noise, which does not compress.
@pytest.mark.parametrize(("side", "least"), [(64, 1000), (2048, 6_000_000)], ids=["small", "large"])
@pytest.mark.timeout(600)
def test_a_client_streams_a_job_and_writes_its_picture(
    client: list[str], server: ServerProcess, tmp_path: Path, side: int, least: int
) -> None:
    picture, result = tmp_path / "picture.png", tmp_path / "result.png"
    picture.write_bytes(png())
    command = [*client, server.address, str(picture), str(side), str(result)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert result.stat().st_size > least
    with Image.open(result) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (side, side))
