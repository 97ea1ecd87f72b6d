"""Invalid requests: each gets the right status and the name of the wrong field, and the server keeps working."""

import math
from typing import Any, cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from PIL import Image

from gramophone.v1 import job_service_pb2, model_service_pb2
from gramophone.v1 import options_pb2 as o
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import ServerProcess, encode, options, png, png_header, rpc_status, run, style_request

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PICTURE = o.InputImage(data=png())
BLACK = o.InputImage(data=encode(Image.new("L", (8, 8))))


def source(**fields: Any) -> o.StyleSource:
    return o.StyleSource(**({"image": PICTURE} | fields))  # type: ignore[arg-type]


def loss(kind: int, weight: float | None = None) -> o.StyleLossWeight:
    return o.StyleLossWeight(loss=kind, weight=weight)  # type: ignore[arg-type]


def style(*sources: o.StyleSource, layers: tuple[o.LayerWeight, ...] = (), **fields: Any):
    return pb.ReconstructStyleRequest(styles=sources or [source()], style_layers=layers, options=options(**fields))


def content(data: bytes | None, **fields: Any):
    image = None if data is None else o.InputImage(data=data)
    return pb.ReconstructContentRequest(content=image, options=options(**fields))


def transfer(**fields: Any):
    return pb.TransferStyleRequest(content=PICTURE, styles=[source()], options=options(), **fields)  # type: ignore[arg-type]


def speck() -> o.InputImage:
    """A black mask with one white pixel, which is lost when the mask is scaled down to a small picture."""
    image = Image.new("L", (2000, 2000))
    image.putpixel((0, 0), 255)
    return o.InputImage(data=encode(image))


def layer(name: str, **fields: Any) -> o.LayerWeight:
    return o.LayerWeight(layer=name, **fields)  # type: ignore[arg-type]


# name: (request, expected status, field, words of the description)
CASES = {
    "no picture": (content(None), INVALID, "content.data", "empty"),
    "no style": (pb.ReconstructStyleRequest(options=options()), INVALID, "styles", "0 pictures"),
    "empty style picture": (style(o.StyleSource()), INVALID, "styles[0].image.data", "empty"),
    "text for a picture": (content(b"hello"), INVALID, "content.data", "not a picture"),
    "PNG without pixels": (content(png()[:45]), INVALID, "content.data", "truncated"),
    "broken TIFF": (content(encode(Image.new("RGB", (9, 9)), "TIFF")[:-99]), INVALID, "content.data", "decoded"),
    "40,000 x 40,000": (content(png_header(40_000, 40_000)), INVALID, "content.data", "1,600,000,000 pixels"),
    "layer conv9_1": (style(layers=(layer("conv9_1"),)), INVALID, "style_layers[0].layer", "conv9_1"),
    "empty layer": (style(layers=(layer(""),)), INVALID, "style_layers[0].layer", "has the layers"),
    "layer twice": (
        style(layers=(layer("conv1_1"), layer("relu1_1"))),
        INVALID,
        "style_layers[1].layer",
        "once",
    ),
    "negative layer weight": (
        style(layers=(layer("conv1_1", weight=-1),)),
        INVALID,
        "style_layers[0].weight",
        "at least 0",
    ),
    "layer weights all 0": (style(layers=(layer("conv1_1", weight=0),)), INVALID, "style_layers", "all 0"),
    "iterations 0": (style(iterations=0), INVALID, "options.iterations", "1 to"),
    "iterations -5": (style(iterations=-5), INVALID, "options.iterations", "-5"),
    "size 7": (style(size=7), INVALID, "options.size", "16 to 8192"),
    "size 100,000": (style(size=100_000), INVALID, "options.size", "100000"),
    "negative weight": (style(source(weight=-1)), INVALID, "styles[0].weight", "at least 0"),
    "NaN weight": (style(source(weight=math.nan)), INVALID, "styles[0].weight", "finite"),
    "infinite weight": (style(source(), source(weight=math.inf)), INVALID, "styles[1].weight", "finite"),
    "weights sum to 0": (style(source(weight=0), source(weight=0)), INVALID, "styles", "sum to 0"),
    "17 styles": (style(*[source()] * 17), INVALID, "styles", "1 to 16"),
    "scale 100": (style(source(scale=100)), INVALID, "styles[0].scale", "0.1 to 8"),
    "unknown model": (style(model="vgg99"), NOT_FOUND, "options.model", "vgg99"),
    "model with a path": (style(model="../../etc"), NOT_FOUND, "options.model", "etc"),
    "wrong enum": (style(optimizer=77), INVALID, "options.optimizer", "OPTIMIZER_ADAM"),
    "wrong pooling": (style(pooling=9), INVALID, "options.pooling", "POOLING_AVERAGE"),
    "learning rate 0": (style(learning_rate=0), INVALID, "options.learning_rate", "greater"),
    "learning rate NaN": (style(learning_rate=math.nan), INVALID, "options.learning_rate", "finite"),
    "init content without content": (style(init=o.INIT_CONTENT), INVALID, "options.init", "no content"),
    "init image without image": (style(init=o.INIT_IMAGE), INVALID, "options.init_image", "missing"),
    "init image and noise": (style(init=o.INIT_NOISE, init_image=PICTURE), INVALID, "options.init_image", "leave out"),
    "broken init image": (
        style(init_image=o.InputImage(data=b"?")),
        INVALID,
        "options.init_image.data",
        "not a picture",
    ),
    "negative variation": (style(tv_weight=-0.1), INVALID, "options.tv_weight", "at least 0"),
    "report_every -1": (style(report_every=-1), INVALID, "options.report_every", "0 to"),
    "preview of 1 pixel": (
        style(preview=o.PreviewOptions(size=1)),
        INVALID,
        "options.preview.size",
        "16 to 2048",
    ),
    "preview in a wrong format": (
        style(preview=o.PreviewOptions(format=cast(Any, 50))),
        INVALID,
        "options.preview.format",
        "IMAGE_FORMAT_PNG",
    ),
    "time limit 0": (style(time_limit=Duration()), INVALID, "options.time_limit", "greater than 0"),
    "both weights 0": (transfer(content_weight=0, style_weight=0), INVALID, "style_weight", "nothing to optimize"),
    "wrong on_disconnect": (
        transfer(submission={"on_disconnect": 5}),
        INVALID,
        "submission.on_disconnect",
        "ON_DISCONNECT_CANCEL",
    ),
    "init image from statistics": (
        style(init=o.INIT_STYLE_STATISTICS, init_image=PICTURE),
        INVALID,
        "options.init_image",
        "INIT_STYLE_STATISTICS",
    ),
    "style statistics without style": (
        content(png(), init=o.INIT_STYLE_STATISTICS),
        INVALID,
        "options.init",
        "no style",
    ),
    "wrong init": (style(init=6), INVALID, "options.init", "INIT_BLEND"),
    "init noise 1.5": (style(init_noise=1.5), INVALID, "options.init_noise", "0 to 1"),
    "init noise NaN": (style(init_noise=math.nan), INVALID, "options.init_noise", "finite"),
    "-1 scales": (style(scales=-1), INVALID, "options.scales", "0 to 8"),
    "9 scales": (style(scales=9), INVALID, "options.scales", "0 to 8"),
    "wrong padding": (style(padding=5), INVALID, "options.padding", "PADDING_REPLICATE"),
    "wrong wrap": (style(wrap=5), INVALID, "options.wrap", "WRAP_BOTH"),
    "wrap with another padding": (
        style(wrap=o.WRAP_X, padding=o.PADDING_ZEROS),
        INVALID,
        "options.wrap",
        "is WRAP_X, but options.padding is PADDING_ZEROS; leave out one of the two",
    ),
    "odd size that wraps": (style(size=63, wrap=o.WRAP_Y), INVALID, "options.size", "use 62 or 64"),
    "averaging 1": (style(averaging=1), INVALID, "options.averaging", "0 to 0.9999"),
    "negative averaging": (style(averaging=-0.1), INVALID, "options.averaging", "0 to 0.9999"),
    "plateau 2": (style(plateau=2), INVALID, "options.plateau", "0 to 1"),
    "negative plateau": (style(plateau=-0.1), INVALID, "options.plateau", "0 to 1"),
    "color of a texture": (style(color=o.COLOR_MODE_LUMINANCE), INVALID, "options.color", "COLOR_MODE_LUMINANCE"),
    "color of a reconstruction": (
        content(png(), color=o.COLOR_MODE_MATCH),
        INVALID,
        "options.color",
        "style transfer",
    ),
    "tiles of sorted projections": (
        style(style_loss=o.STYLE_LOSS_SLICED_WASSERSTEIN, tile_size=64),
        INVALID,
        "options.tile_size",
        "needs the whole canvas",
    ),
    "tiles of a combination with sorted projections": (
        style(
            style_losses=[loss(o.STYLE_LOSS_GRAM), loss(o.STYLE_LOSS_SLICED_WASSERSTEIN, 0.5)],
            tile_size=64,
        ),
        INVALID,
        "options.tile_size",
        "STYLE_LOSS_SLICED_WASSERSTEIN needs the whole canvas",
    ),
    "spectrum alone": (style(style_loss=o.STYLE_LOSS_SPECTRUM), INVALID, "options.style_loss", "combine it"),
    "spectrum alone in a combination": (
        style(style_losses=[loss(o.STYLE_LOSS_SPECTRUM)]),
        INVALID,
        "options.style_loss",
        "combine it",
    ),
    "one loss and several": (
        style(style_loss=o.STYLE_LOSS_GRAM, style_losses=[loss(o.STYLE_LOSS_GRAM)]),
        INVALID,
        "options.style_losses",
        "leave out options.style_loss",
    ),
    "a loss twice": (
        style(style_losses=[loss(o.STYLE_LOSS_GRAM), loss(o.STYLE_LOSS_GRAM, 2)]),
        INVALID,
        "options.style_losses[1].loss",
        "STYLE_LOSS_GRAM again",
    ),
    "an unknown loss": (style(style_losses=[loss(99)]), INVALID, "options.style_losses[0].loss", "is 99, which is not"),
    "no loss": (style(style_losses=[loss(0)]), INVALID, "options.style_losses[0].loss", "is missing"),
    "a loss with weight 0": (
        style(style_losses=[loss(o.STYLE_LOSS_GRAM, 0)]),
        INVALID,
        "options.style_losses[0].weight",
        "greater than 0",
    ),
    "a loss with a negative weight": (
        style(style_losses=[loss(o.STYLE_LOSS_GRAM, -1)]),
        INVALID,
        "options.style_losses[0].weight",
        "greater than 0",
    ),
    "a loss whose weight is not a number": (
        style(style_losses=[loss(o.STYLE_LOSS_GRAM, float("nan"))]),
        INVALID,
        "options.style_losses[0].weight",
        "greater than 0",
    ),
    "nine losses": (style(style_losses=[loss(o.STYLE_LOSS_GRAM)] * 9), INVALID, "options.style_losses", "1 to 8"),
    "outside of a texture": (style(outside=o.OUTSIDE_KEEP), INVALID, "options.outside", "style transfer"),
    "outside without masks": (
        pb.TransferStyleRequest(
            content=content(png()).content, styles=style().styles, options=options(outside=o.OUTSIDE_KEEP)
        ),
        INVALID,
        "styles[0].mask",
        "needs a mask for each style",
    ),
    "wrong color": (style(color=5), INVALID, "options.color", "COLOR_MODE_HISTOGRAM"),
    "wrong loss scale": (style(loss_scale=3), INVALID, "options.loss_scale", "LOSS_SCALE_RELATIVE"),
    "no curvature pair": (style(lbfgs_history=0), INVALID, "options.lbfgs_history", "1 to 200"),
    "201 curvature pairs": (style(lbfgs_history=201), INVALID, "options.lbfgs_history", "1 to 200"),
    "tiles of 63 pixels": (style(tile_size=63), INVALID, "options.tile_size", "64 to 8192"),
    "tiles of 8193 pixels": (style(tile_size=8193), INVALID, "options.tile_size", "64 to 8192"),
    "12 bits": (style(result=o.ResultOptions(bit_depth=12)), INVALID, "options.result.bit_depth", "8 or 16"),
    "32 bits": (style(result=o.ResultOptions(bit_depth=32)), INVALID, "options.result.bit_depth", "8"),
    "JPEG of 16 bits": (
        style(result=o.ResultOptions(format=o.IMAGE_FORMAT_JPEG, bit_depth=16)),
        INVALID,
        "options.result.format",
        "must be one of IMAGE_FORMAT_PNG, IMAGE_FORMAT_TIFF",
    ),
    "WebP result": (
        style(result=o.ResultOptions(format=o.IMAGE_FORMAT_WEBP)),
        INVALID,
        "options.result.format",
        "IMAGE_FORMAT_WEBP",
    ),
    "TIFF preview": (
        style(preview=o.PreviewOptions(format=o.IMAGE_FORMAT_TIFF)),
        INVALID,
        "options.preview.format",
        "must be one of IMAGE_FORMAT_JPEG, IMAGE_FORMAT_PNG, IMAGE_FORMAT_WEBP",
    ),
    "black mask": (style(source(), source(mask=BLACK)), INVALID, "styles[1].mask", "black all over"),
    "black source mask": (style(source(source_mask=BLACK)), INVALID, "styles[0].source_mask", "black all over"),
    "empty mask": (style(source(mask=o.InputImage())), INVALID, "styles[0].mask.data", "empty"),
    "text for a mask": (style(source(mask=o.InputImage(data=b"?"))), INVALID, "styles[0].mask.data", "not a picture"),
    "text for a source mask": (
        style(source(), source(source_mask=o.InputImage(data=b"?"))),
        INVALID,
        "styles[1].source_mask.data",
        "not a picture",
    ),
    "mask too small to see": (style(source(mask=speck())), INVALID, "styles[0].mask", "32x32"),
    "source mask too small to see": (
        style(source(), source(scale=2, source_mask=speck())),
        INVALID,
        "styles[1].source_mask",
        "64x64",
    ),
    "too thin for its layers": (content(png(400, 8)), INVALID, "options.size", "needs 8 pixels"),
}


def call(server: ServerProcess, request: object) -> None:
    method: Any = {
        pb.ReconstructStyleRequest: server.style.ReconstructStyle,
        pb.ReconstructContentRequest: server.style.ReconstructContent,
        pb.TransferStyleRequest: server.style.TransferStyle,
    }[type(request)]
    list(method(request, timeout=30))


def violations(error: grpc.RpcError) -> dict[str, str]:
    """Returns the description of each field violation in an error's details, by field."""
    status = rpc_status(error)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    found: dict[str, str] = {}
    for detail in status.details:
        bad_request = error_details_pb2.BadRequest()
        if detail.Unpack(bad_request):
            found |= {v.field: v.description for v in bad_request.field_violations}
    return found


@pytest.mark.parametrize("case", CASES)
def test_an_invalid_request_gets_the_status_and_the_field(server, case):
    request, code, field, words = CASES[case]
    with pytest.raises(grpc.RpcError) as caught:
        call(server, request)
    assert caught.value.code() == code
    found = violations(caught.value)
    assert field in found, found
    assert words in found[field]


def test_all_invalid_fields_are_reported_at_once(server):
    with pytest.raises(grpc.RpcError) as caught:
        call(server, style(source(weight=-1), iterations=0, size=7, scales=9))
    wrong = {"styles[0].weight", "options.iterations", "options.size", "options.scales"}
    assert set(violations(caught.value)) == wrong


def test_an_estimate_is_validated_like_a_job(server):
    for request, field in (
        (pb.EstimateJobRequest(), "job"),
        (pb.EstimateJobRequest(style=style(plateau=2)), "options.plateau"),
        (pb.EstimateJobRequest(content=content(b"hello")), "content.data"),
        (pb.EstimateJobRequest(transfer=transfer(content_weight=-1)), "content_weight"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            server.style.EstimateJob(request)
        assert caught.value.code() == INVALID
        assert field in violations(caught.value)


def test_a_message_above_the_size_limit_is_refused(server):
    with pytest.raises(grpc.RpcError) as caught:
        call(server, content(b"x" * (129 << 20)))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", ["GetJob", "CancelJob", "WatchJob"])
def test_an_unknown_job_is_not_found(server, method):
    request = getattr(job_service_pb2, f"{method}Request")
    for job_id, code in (("nobody", NOT_FOUND), ("", INVALID)):
        with pytest.raises(grpc.RpcError) as caught:
            list(getattr(server.jobs, method)(request(job_id=job_id)))
        assert caught.value.code() == code
        assert "job_id" in violations(caught.value)


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"layers": ["conv7_7"]}, INVALID, "layers[0]"),
        ({"image": o.InputImage(data=b"")}, INVALID, "image.data"),
        ({"size": 3}, INVALID, "size"),
        ({"kind": 9}, INVALID, "kind"),
        ({"model": "nobody"}, NOT_FOUND, "model"),
        ({"image": o.InputImage(data=png(400, 8))}, INVALID, "image"),
        ({"kind": model_service_pb2.FEATURE_KIND_MAP, "size": 4096}, INVALID, "layers"),
    ],
)
def test_an_invalid_feature_request_gets_the_status_and_the_field(server, fields, code, field):
    request = model_service_pb2.ExtractFeaturesRequest(**({"image": PICTURE} | fields))
    with pytest.raises(grpc.RpcError) as caught:
        list(server.models.ExtractFeatures(request))
    assert caught.value.code() == code
    assert field in violations(caught.value)


def test_an_invalid_list_request_gets_the_field(server):
    for fields, field in (
        ({"page_size": 0}, "page_size"),
        ({"states": [99]}, "states[0]"),
        ({"created_after": Timestamp(seconds=2**62)}, "created_after"),
        ({"created_before": Timestamp(nanos=-1)}, "created_before"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            server.jobs.ListJobs(job_service_pb2.ListJobsRequest(**fields))
        assert caught.value.code() == INVALID
        assert field in violations(caught.value)


def test_the_server_still_works_after_invalid_requests(server):
    assert run(server, style_request()).image.data.startswith(b"\x89PNG")
    assert "Traceback" not in server.read_log()
