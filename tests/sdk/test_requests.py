"""Requests that the SDK builds from arguments: every option reaches its field, and nothing else is sent."""

import pytest

from gramophone.options import Options
from gramophone.requests import Style, content_request, style_request, transfer_request
from gramophone.uploads import Uploaded
from gramophone.v1 import options_pb2

IMAGE = b"file"


def test_options_that_are_not_given_are_not_sent():
    options = style_request(IMAGE, None, {}).options
    assert not [field.name for field, _ in options.ListFields() if field.name != "preview"]
    assert not options.preview.ListFields()


def test_every_option_reaches_its_field():
    options: Options = {
        "size": 64,
        "fit": "square",
        "iterations": 7,
        "optimizer": "adam",
        "learning_rate": 2.5,
        "init": "noise",
        "seed": 3,
        "precision": "float32",
        "pooling": "average",
        "tv_weight": 0.5,
        "report_every": 2,
        "preview_every": 4,
        "preview_size": 32,
        "preview_format": "webp",
        "time_limit": 1.5,
        "model": "m",
        "on_disconnect": "cancel",
        "scales": 2,
        "padding": "replicate",
        "init_noise": 0.25,
        "averaging": 0.9,
        "plateau": 0.01,
        "color": "luminance",
        "loss_scale": "relative",
        "lbfgs_history": 9,
        "result_format": "tiff",
        "bit_depth": 16,
        "tile_size": 128,
        "style_loss": "mean_covariance",
        "outside": "keep",
        "wrap": "x",
        "transparency": "white",
        "canvas_map": b"map",
        "reproducible": False,
        "warm_start": True,
        "request_id": "mine",
        "priority": -3,
    }
    assert set(options) == set(Options.__annotations__)
    request = style_request(IMAGE, None, options)
    sent = request.options
    assert (sent.size, sent.iterations, sent.seed, sent.model) == (64, 7, 3, "m")
    assert (sent.fit, sent.optimizer) == (options_pb2.FIT_SQUARE, options_pb2.OPTIMIZER_ADAM)
    assert (sent.precision, sent.pooling) == (options_pb2.PRECISION_FLOAT32, options_pb2.POOLING_AVERAGE)
    assert (sent.learning_rate, sent.tv_weight, sent.init) == (2.5, 0.5, options_pb2.INIT_NOISE)
    assert (sent.report_every, sent.preview.every, sent.preview.size) == (2, 4, 32)
    assert sent.preview.format == options_pb2.IMAGE_FORMAT_WEBP
    assert (sent.scales, sent.init_noise, sent.averaging, sent.plateau) == (2, 0.25, 0.9, 0.01)
    assert (sent.padding, sent.color) == (options_pb2.PADDING_REPLICATE, options_pb2.COLOR_MODE_LUMINANCE)
    assert (sent.loss_scale, sent.lbfgs_history) == (options_pb2.LOSS_SCALE_RELATIVE, 9)
    assert (sent.result.format, sent.result.bit_depth) == (options_pb2.IMAGE_FORMAT_TIFF, 16)
    assert sent.tile_size == 128
    assert sent.canvas_map.data == b"map"
    assert sent.HasField("reproducible")
    assert not sent.reproducible
    assert sent.warm_start
    assert sent.wrap == options_pb2.WRAP_X
    assert sent.transparency == options_pb2.TRANSPARENCY_WHITE
    assert (sent.style_loss, sent.outside) == (options_pb2.STYLE_LOSS_MEAN_COVARIANCE, options_pb2.OUTSIDE_KEEP)
    assert sent.time_limit.ToTimedelta().total_seconds() == 1.5
    assert request.submission.on_disconnect == options_pb2.ON_DISCONNECT_CANCEL
    assert (request.submission.request_id, request.submission.priority) == ("mine", -3)


def test_jobs_continue_without_their_streams_by_default():
    assert style_request(IMAGE, None, {}).submission.on_disconnect == options_pb2.ON_DISCONNECT_CONTINUE


def test_zero_is_sent_as_a_value():
    request = transfer_request(IMAGE, IMAGE, None, None, 0.0, None, {"seed": 0, "preview_every": 0})
    assert request.HasField("content_weight")
    assert not request.HasField("style_weight")
    assert request.options.HasField("seed")
    assert request.options.preview.HasField("every")


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, []),
        (1, [("conv1_1", None)]),
        (3, [("conv1_1", None), ("conv2_1", None), ("conv3_1", None)]),
        ("conv4_2", [("conv4_2", None)]),
        (["conv1_1", "relu2_2"], [("conv1_1", None), ("relu2_2", None)]),
        ({"conv1_1": 0.0, "conv2_1": 2.0}, [("conv1_1", 0.0), ("conv2_1", 2.0)]),
    ],
)
def test_layers_are_given_as_a_number_a_name_names_or_weights(layers, expected):
    sent = style_request(IMAGE, layers, {}).style_layers
    assert [(w.layer, w.weight if w.HasField("weight") else None) for w in sent] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["gram"], [("gram", None)]),
        (("gram", "spectrum"), [("gram", None), ("spectrum", None)]),
        ({"gram": 1, "spectrum": 0.5}, [("gram", 1.0), ("spectrum", 0.5)]),
        ({"gram": None, "spectrum": 2}, [("gram", None), ("spectrum", 2.0)]),
    ],
)
def test_style_losses_are_given_as_words_or_weights(value, expected):
    sent = style_request(IMAGE, None, {"style_loss": value}).options
    assert not sent.HasField("style_loss")
    words = {"gram": options_pb2.STYLE_LOSS_GRAM, "spectrum": options_pb2.STYLE_LOSS_SPECTRUM}
    got = [(w.loss, w.weight if w.HasField("weight") else None) for w in sent.style_losses]
    assert got == [(words[word], weight) for word, weight in expected]


@pytest.mark.parametrize(
    ("value", "error", "reason"),
    [
        ([], TypeError, "style_loss must be a word, words, or words with weights"),
        (3, TypeError, "style_loss must be a word, words, or words with weights, not 3"),
        (["grams"], ValueError, "style_loss must be one of gram, .*, not 'grams'"),
        (["gram", "gram"], ValueError, "style_loss has a word twice: gram, gram"),
        ({"gram": "much"}, TypeError, "weight of style_loss gram must be a number"),
    ],
)
def test_wrong_style_losses_are_errors_that_say_why(value, error, reason):
    with pytest.raises(error, match=reason):
        style_request(IMAGE, None, {"style_loss": value})


def test_several_styles_keep_their_weights_and_scales():
    sent = style_request([IMAGE, Style(b"other", weight=0.0, scale=2.0)], None, {}).styles
    assert [s.image.data for s in sent] == [b"file", b"other"]
    assert not sent[0].HasField("weight")
    assert sent[1].HasField("weight")
    assert (sent[1].weight, sent[1].scale) == (0.0, 2.0)


def test_init_may_be_a_picture():
    sent = content_request(IMAGE, None, {"init": b"start"}).options
    assert sent.init_image.data == b"start"
    assert not sent.HasField("init")


def test_an_uploaded_picture_is_named_by_its_hash():
    image = content_request(Uploaded("ab" * 32), None, {}).content
    assert (image.sha256, image.data) == ("ab" * 32, b"")


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: style_request(IMAGE, None, {"optimizer": "sgd"}), ValueError, "lbfgs, adam, not 'sgd'"),  # type: ignore[typeddict-item]
        (lambda: style_request(IMAGE, 6, {}), ValueError, "1 to 5"),
        (lambda: style_request(IMAGE, 0, {}), ValueError, "1 to 5"),
        (lambda: content_request(IMAGE, 3, {}), ValueError, "names"),
        (lambda: style_request(IMAGE, None, {"iteratons": 3}), TypeError, "no option iteratons; .*iterations"),  # type: ignore[typeddict-unknown-key]
    ],
)
def test_wrong_options_and_layers_are_errors_that_say_why(make, error, reason):
    with pytest.raises(error, match=reason):
        make()
