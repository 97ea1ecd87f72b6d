"""Downloads of the pictures that a job was given, from a real server."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

import gramophone
from tests.harness import ServerProcess, png

UNKNOWN = "0" * 64


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_an_input_is_downloaded_to_bytes_a_path_or_a_file(server: ServerProcess, tmp_path) -> None:
    picture = png(32, 32)
    sha256 = hashlib.sha256(picture).hexdigest()
    with gramophone.Client(server.address) as client:
        job = client.style(picture, size=32, iterations=2)
        job.result()
        data = client.job(job.id).download_input(sha256)
        assert np.array_equal(pixels(data), pixels(picture))
        path = tmp_path / "folder" / "style.png"
        assert job.download_input(sha256, path) is None
        assert path.read_bytes() == data
        file = io.BytesIO()
        job.download_input(sha256, file)
        assert file.getvalue() == data
        with pytest.raises(gramophone.NotFoundError, match="not among its pictures"):
            job.download_input(UNKNOWN, tmp_path / "none.png")
        assert not (tmp_path / "none.png").exists()
        with pytest.raises(gramophone.InvalidRequestError, match="64 lower-case hexadecimal digits"):
            job.download_input("abc")


async def test_the_asynchronous_client_downloads_an_input(server: ServerProcess) -> None:
    picture = png(32, 32, seed=1)
    async with gramophone.aio.Client(server.address) as client:
        job = await client.style(picture, size=32, iterations=2)
        await job.result()
        data = await job.download_input(hashlib.sha256(picture).hexdigest())
        assert np.array_equal(pixels(data), pixels(picture))
