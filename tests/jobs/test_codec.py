"""What is kept of a job comes back as it was."""

import hashlib
from dataclasses import replace

import pytest

from gramophone_server.jobs import codec
from gramophone_server.jobs.events import EncodedPicture, Failure, LossTerm, Progress, Result
from gramophone_server.jobs.spec import JobSpec, Mask, Picture, StylePicture

from .specs import make_spec

TERMS = (LossTerm("style", "conv1_1", 0.1, 1 / 3, None), LossTerm("style", "conv2_1", 1e30, 0.2, 1))


class Shelf(dict[str, bytes]):
    def put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self[name] = data
        return name


@pytest.fixture
def spec() -> JobSpec:
    picture = Picture(2, 1, b"abcdef", "0" * 64)
    masked = StylePicture(Picture(1, 1, b"xyz", "1" * 64), 1 / 3, Mask(1, 1, b"\xff", "2" * 64), None)
    styles = (StylePicture(picture, 2 / 3), masked)
    return make_spec(content=picture, styles=styles, init_image=picture, time_limit=0.1, tv_weight=1e-300)


def test_a_spec(spec):
    shelf = Shelf()
    text, names = codec.encode_spec(spec, shelf.put)
    assert codec.decode_spec(text, shelf.__getitem__) == spec
    assert set(names) == set(shelf)
    assert set(shelf.values()) == {b"abcdef", b"xyz", b"\xff"}


def test_a_spec_without_its_pixels(spec):
    text, _ = codec.encode_spec(spec, Shelf().put)
    bare = codec.decode_spec(text, None)
    assert bare.without_pixels() == spec.without_pixels()
    assert bare.content == replace(spec.content, rgb=b"")


def test_progress_without_its_preview():
    progress = Progress(3, 9, 0.1, TERMS, 2.5, 1.0, 2.0, EncodedPicture(b"preview", "jpeg", 1, 1))
    assert codec.decode_progress(codec.encode_progress(progress)) == replace(progress, preview=None)


def test_a_result_beside_its_file():
    result = Result(EncodedPicture(b"file", "tiff", 2, 3), 1e-9, TERMS, 7, "model", '{"a": "ä"}', 0.1, 0.2, 0.3)
    text = codec.encode_result(result)
    assert "file" not in text
    assert codec.decode_result(text, b"file") == result


def test_a_failure():
    failure = Failure("OUT_OF_RANGE", "The loss …")
    assert codec.decode_failure(codec.encode_failure(failure)) == failure
