import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gramophone.images import decode, encode

LEVELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_files_and_bytes_are_sent_as_they_are(tmp_path):
    path = tmp_path / "picture.any"
    path.write_bytes(b"as it is")
    for image in (path, str(path), b"as it is", bytearray(b"as it is")):
        assert encode(image) == b"as it is"


@pytest.mark.parametrize("array", [LEVELS, LEVELS / 255, (LEVELS / 255).astype(np.float32)], ids=["8", "f8", "f4"])
def test_arrays(array):
    assert np.array_equal(pixels(encode(array)), LEVELS)


def test_grey_and_alpha():
    assert np.array_equal(pixels(encode(LEVELS[..., 0])), LEVELS[..., 0])
    alpha = np.dstack([LEVELS, LEVELS[..., :1]])
    assert np.array_equal(pixels(encode(alpha)), alpha)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK", "HSV", "F"])
def test_pil_images_of_any_mode(mode):
    image = Image.fromarray(LEVELS).convert("RGB")
    image = image.convert("L").convert("F") if mode == "F" else image.convert(mode)
    assert decode(encode(image)).size == (7, 5)


@pytest.mark.parametrize(
    ("image", "error", "reason"),
    [
        (LEVELS.astype(np.int32), ValueError, "int32"),
        (LEVELS.astype(np.float32), ValueError, "divide by 255"),
        (LEVELS / 255 - 1, ValueError, "of 0 to 1"),
        (np.full((2, 2, 3), np.nan), ValueError, "NaN"),
        (np.zeros((2, 2, 2), np.uint8), ValueError, r"\(2, 2, 2\)"),
        (np.zeros((3, 4, 4, 3), np.uint8), ValueError, "shape"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "no pixels"),
        (42, TypeError, "not int"),
        (None, TypeError, "not NoneType"),
        (Path("nowhere.png"), FileNotFoundError, "nowhere.png"),
    ],
)
def test_what_is_refused(image, error, reason):
    with pytest.raises(error, match=reason):
        encode(image)
