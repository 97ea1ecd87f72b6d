"""Pictures as paths, bytes, open files and arrays. test_image_objects.py tests PIL images."""

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gramophone.images import encode

LEVELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_files_and_bytes_are_sent_as_they_are(tmp_path):
    path = tmp_path / "picture.any"
    path.write_bytes(b"as it is")
    images: tuple[Any, ...] = (path, str(path), b"as it is", bytearray(b"as it is"), memoryview(b"as it is"))
    for image in images:
        assert encode(image) == b"as it is"


ARRAYS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "uint8": (LEVELS, LEVELS),
    "float64": (LEVELS / 255, LEVELS),
    "float32": ((LEVELS / 255).astype(np.float32), LEVELS),
    "float16": ((LEVELS / 255).astype(np.float16), LEVELS),
    "float32 of the other byte order": ((LEVELS / 255).astype(">f4"), LEVELS),
    "float beyond 1 by rounding": (LEVELS / 255 * 1.0001, LEVELS),
    "uint16": (LEVELS.astype(np.uint16) * 257, LEVELS),
    "uint16 of the other byte order": ((LEVELS.astype(np.uint16) * 257).astype(">u2"), LEVELS),
    "bool": (LEVELS > 99, (LEVELS > 99) * 255),
    "bool of one channel": (LEVELS[..., 0] > 99, (LEVELS[..., 0] > 99) * 255),
    "one channel": (LEVELS[..., :1], LEVELS[..., 0]),
    "every second pixel": (LEVELS[::2, ::-2], LEVELS[::2, ::-2]),
    "columns first in memory": (np.asfortranarray(LEVELS), LEVELS),
    "not to be written to": (np.frombuffer(LEVELS.tobytes(), np.uint8).reshape(LEVELS.shape), LEVELS),
    "a single pixel": (LEVELS[:1, :1], LEVELS[:1, :1]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_encoded_without_loss(name):
    array, levels = ARRAYS[name]
    assert np.array_equal(pixels(encode(array)), levels)


def test_tensors_are_encoded_like_arrays():
    tensor: Any = torch.from_numpy(LEVELS.copy())
    assert np.array_equal(pixels(encode(tensor)), LEVELS)
    assert np.array_equal(pixels(encode(tensor / 255)), LEVELS)
    with pytest.raises(TypeError, match=r"Tensor .*give a numpy array, .*permute"):
        encode((tensor / 255).requires_grad_())
    with pytest.raises(ValueError, match="move the channels last"):
        encode(tensor.permute(2, 0, 1))


def test_gray_and_alpha_channels_are_kept():
    assert np.array_equal(pixels(encode(LEVELS[..., 0])), LEVELS[..., 0])
    alpha = np.dstack([LEVELS, LEVELS[..., :1]])
    assert np.array_equal(pixels(encode(alpha)), alpha)


class Wrapper:
    """An upload of a web framework, with `read` and `seek` only."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.read, self.seek = self._file.read, self._file.seek


class Async:
    """An upload of an asynchronous web framework."""

    name = "photo.jpg"

    async def read(self) -> bytes:
        return b""


class Stream(io.RawIOBase):
    """A response body, which can only be read forward."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._file.readinto(buffer)


def test_open_files_are_read_from_their_beginning(tmp_path):
    path = tmp_path / "picture.any"
    path.write_bytes(b"as it is")
    buffer = io.BytesIO()
    buffer.write(b"as it is")  # leaves the position at the end
    with path.open("rb") as file, path.open("r+b") as both, tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(b"as it is")
        file.read(3)
        files: tuple[Any, ...] = (buffer, file, both, spooled, Wrapper(b"as it is"), Stream(b"as it is"))
        for image in files:
            assert encode(image) == b"as it is"


@pytest.mark.parametrize(
    ("image", "error", "reason"),
    [
        (io.StringIO("text"), TypeError, "open as text; .*'rb'"),
        (io.BytesIO(), ValueError, "'BytesIO' is empty"),
        (Async(), TypeError, "'photo.jpg' is read asynchronously; .*await"),
        (b"", ValueError, "empty"),
        (bytearray(), ValueError, "empty"),
        ("", ValueError, "path is empty"),
        ("https://example.com/harbour.jpg", ValueError, "cannot be a URL such as .*download it first"),
        ("s3://bucket/" + "x" * 200, ValueError, "cannot be a URL such as 's3://bucket/x{68}…'"),
        ("file:///tmp/harbour.jpg", ValueError, "give only its path"),
        ("data:image/png;base64,iVBORw0KGgo=", ValueError, "b64decode"),
        ("iVBORw0KGgo=" * 1000, ValueError, "is not a path; .*as bytes"),
        ("a\0b", ValueError, "is not a path"),
        ("ab" * 32, FileNotFoundError, "Uploaded"),
        (".", IsADirectoryError, "is a folder, not a picture"),
        (Path(), IsADirectoryError, "is a folder, not a picture"),
        (LEVELS.astype(np.int32), ValueError, "int32"),
        (LEVELS.astype(np.complex64), ValueError, "complex64"),
        (LEVELS.astype(object), ValueError, "object"),
        (LEVELS.astype(np.float32), ValueError, "divide by 255"),
        (LEVELS / 255 - 1, ValueError, "of 0 to 1"),
        (LEVELS / LEVELS.max() * 1.01, ValueError, "of 0 to 1"),
        (LEVELS.astype(np.uint16), ValueError, "levels of .* which is black"),
        (np.full((2, 2, 3), np.nan), ValueError, "NaN"),
        (np.full((2, 2), np.inf), ValueError, "infinite"),
        (np.zeros((2, 2, 2), np.uint8), ValueError, r"\(2, 2, 2\)"),
        (np.zeros((3, 4, 5), np.uint8), ValueError, "channels last"),
        (np.zeros((3, 4, 4, 3), np.uint8), ValueError, "shape .*one picture of the batch"),
        (np.zeros(12, np.uint8), ValueError, "shape"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "no pixels"),
        (np.zeros((4, 0), np.float32), ValueError, "no pixels"),
        (42, TypeError, "not int"),
        (None, TypeError, "not NoneType"),
        ([[0, 1]], TypeError, "not list"),
        (Path("nowhere.png"), FileNotFoundError, "nowhere.png"),
    ],
)
def test_values_that_are_no_pictures_are_refused_with_the_reason(image, error, reason):
    with pytest.raises(error, match=reason):
        encode(image)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    path = tmp_path / "picture.any"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"picture\.any: the file is empty"):
        encode(path)
    with path.open("wb") as file, pytest.raises(ValueError, match="not open for reading"):
        encode(file)
    with pytest.raises(ValueError, match="is closed"):
        encode(file)
    with path.open() as text, pytest.raises(TypeError, match="open as text"):
        encode(text)
