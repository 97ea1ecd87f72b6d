"""What is kept of a job comes back as it was."""

import json
from dataclasses import replace

import pytest

from gramophone_server.messages.events import EncodedPicture, Failure, LossTerm, Progress, Result
from gramophone_server.messages.spec import JobSpec, Mask, Picture, StylePicture
from gramophone_server.storage import codec
from tests.messages.specs import make_spec

TERMS = (LossTerm("style", "conv1_1", 0.1, 1 / 3, None), LossTerm("style", "conv2_1", 1e30, 0.2, 1))


@pytest.fixture
def spec() -> JobSpec:
    picture = Picture(2, 1, b"abcdef", "0" * 64, "a" * 64)
    mask, source_mask = Mask(1, 1, b"\xff", "2" * 64, "c" * 64), Mask(1, 1, b"\x80", "3" * 64, "d" * 64)
    masked = StylePicture(Picture(1, 1, b"xyz", "1" * 64, "b" * 64), 1 / 3, mask, source_mask)
    styles = (StylePicture(picture, 2 / 3), masked)
    return make_spec(content=picture, styles=styles, init_image=picture, time_limit=0.1, tv_weight=1e-300)


def test_a_spec(spec):
    assert codec.decode_spec(codec.encode_spec(spec)) == spec.without_pixels()


def test_a_spec_names_the_blobs_of_its_pixels(spec):
    values = json.loads(codec.encode_spec(spec))
    assert values["content"] == {"width": 2, "height": 1, "rgb": "a" * 64, "sha256": "0" * 64}
    assert values["styles"][1]["source_mask"] == {"width": 1, "height": 1, "levels": "d" * 64, "sha256": "3" * 64}
    pixels = {"a" * 64: b"abcdef", "b" * 64: b"xyz", "c" * 64: b"\xff", "d" * 64: b"\x80"}
    assert codec.decode_spec(json.dumps(values)).with_pixels(pixels.__getitem__) == spec


def test_a_spec_keeps_what_is_wrong_with_its_pictures():
    spec = make_spec()
    assert spec.warnings == [] and "warning" not in codec.encode_spec(spec)
    damaged = spec.with_each(lambda part: replace(part, warning="content.data is damaged."))
    assert codec.decode_spec(codec.encode_spec(damaged)).warnings == ["content.data is damaged."]


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
