"""`gramophone again`: the recipe of a result gives the same job, with some options changed."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gramophone import read_recipe
from tests.cli.quick import gramophone
from tests.harness import ServerProcess, png

QUICK = ("--size", 32, "--iterations", 15)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, server: ServerProcess) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAMOPHONE_SERVER", server.address)
    for number, name in enumerate(("photo.png", "night.png", "sea.png")):
        Path(name).write_bytes(png(seed=number))
    half = np.zeros((32, 32), np.uint8)
    half[:, 16:] = 255
    Image.fromarray(half).save("right.png")
    Image.fromarray(255 - half).save("left.png")
    regions = np.zeros((32, 32, 3), np.uint8)
    regions[:, :16, 0] = regions[:, 16:, 2] = 255
    Image.fromarray(regions).save("map.png")
    return tmp_path


COMMANDS: dict[str, list[object]] = {
    "style": ["style", "night.png", "--layers", 3, "--seed", 4],
    "two styles": ["style", "night.png", "sea.png", "--style-share", 3, "--style-scale", 0.5, "--optimizer", "adam"],
    "losses": ["style", "night.png", "--style-loss", "gram=1,spectrum=0.5"],
    "content": ["content", "photo.png", "--layers", "conv2_1=1,conv3_1=2"],
    "transfer": ["transfer", "photo.png", "night.png", "--content-weight", 2, "--color", "luminance"],
    "init": ["transfer", "photo.png", "night.png", "--init", "sea.png", "--bit-depth", 16],
    "masks": ["transfer", "photo.png", "-s", "night.png", "-s", "sea.png", "--mask", "left.png", "--mask", "right.png"],
    "map": ["style", "night.png", "--canvas-map", "map.png", "--source-map", "map.png", "--size", 32],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_recipe_gives_the_same_pixels_again(name):
    first = gramophone(*COMMANDS[name], *QUICK, "-o", "out.png")
    assert first.returncode == 0, first.stderr
    done = gramophone("again", "out.png")
    assert done.returncode == 0, done.stderr
    assert "differs" not in done.stderr
    assert pixels("out-2.png") == pixels("out.png")


def pixels(path: str) -> bytes:
    """Returns the compressed pixels of a PNG, without its other chunks."""
    data, found = io.BytesIO(Path(path).read_bytes()), b""
    data.seek(8)
    while length := data.read(4):
        kind, size = data.read(4), int.from_bytes(length, "big")
        found += data.read(size) if kind == b"IDAT" else data.read(size)[:0]
        data.seek(4, io.SEEK_CUR)
    return found


def test_options_change_the_recipe():
    gramophone("style", "night.png", *QUICK, "-o", "out.jpg")
    assert gramophone("again", "out.jpg", "--seed", 7).stdout.startswith("out-2.jpg: 32x32")
    assert gramophone("again", "out.jpg", "--seed", 7, "--size", 48).stdout.startswith("out-3.jpg: 48x48")
    assert read_recipe("out-2.jpg")["seed"] == read_recipe("out-3.jpg")["seed"] == 7


def test_pictures_are_looked_for_by_their_content():
    gramophone("transfer", "photo.png", "night.png", *QUICK, "-o", "out.png")
    Path("elsewhere").mkdir()
    shutil.move("night.png", "elsewhere/renamed.png")
    missing = gramophone("again", "out.png")
    assert missing.returncode != 0
    assert "the style picture (SHA-256 " in missing.stderr
    assert "gramophone again out.png FILE" in missing.stderr
    assert gramophone("again", "out.png", "elsewhere").returncode == 0


def test_a_picture_without_a_recipe_is_refused():
    done = gramophone("again", "photo.png")
    assert done.returncode == 2
    assert "photo.png: the picture contains no recipe of gramophone" in done.stderr
