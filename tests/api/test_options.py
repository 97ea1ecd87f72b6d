"""The effect of each option on the picture."""

import io
import json
from typing import Any

import numpy as np
import png as pypng
import pytest
import tifffile
from google.protobuf.duration_pb2 import Duration
from PIL import Image

from gramophone.features import arrays
from gramophone.v1 import job_pb2
from gramophone.v1 import options_pb2 as o
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone.v1.model_service_pb2 import ExtractFeaturesRequest
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from tests.harness import encode, events, options, png, run, style_request, submit

SIZE = 32
# One Adam step so small that the result equals the initial picture.
STAY: dict[str, Any] = {"iterations": 1, "optimizer": o.OPTIMIZER_ADAM, "learning_rate": 1e-6}


def image(array: np.ndarray) -> o.InputImage:
    return o.InputImage(data=encode(Image.fromarray(array.astype(np.uint8))))


def flat(*color: int, size: int = SIZE) -> np.ndarray:
    return np.full((size, size, 3), color)


def left_half(size: int = SIZE) -> np.ndarray:
    """A gray picture that is white on the left and black on the right."""
    return np.repeat(np.where(np.arange(size) < size // 2, 255, 0)[None], size, axis=0)


LEFT, RIGHT = image(left_half()), image(255 - left_half())


def source(picture: o.InputImage | int = 0, **fields: Any) -> o.StyleSource:
    """A style from a picture, or from a generated picture if `picture` is a seed."""
    chosen = o.InputImage(data=png(seed=picture)) if isinstance(picture, int) else picture
    return o.StyleSource(image=chosen, **fields)  # type: ignore[arg-type]


def style(*sources: o.StyleSource, layers: tuple[str, ...] = (), **fields: Any) -> pb.ReconstructStyleRequest:
    chosen = [o.LayerWeight(layer=name) for name in layers]
    return pb.ReconstructStyleRequest(styles=sources or [source()], style_layers=chosen, options=options(**fields))


def transfer(server, content: o.InputImage, picture: o.InputImage, **fields: Any) -> job_pb2.JobResult:
    """Runs a style transfer to its result."""
    request = pb.TransferStyleRequest(content=content, styles=[source(picture)], options=options(**fields))
    *_, last = submit(server, pb.EstimateJobRequest(transfer=request))
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last
    return last.result


def pixels(data: bytes) -> np.ndarray:
    """The RGB values of a picture file, as signed integers."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def painted(server, *sources: o.StyleSource, **fields: Any) -> np.ndarray:
    """The pixels of a style reconstruction."""
    return pixels(run(server, style(*sources, **fields)).image.data)  # type: ignore[arg-type]


def recipe(result: job_pb2.JobResult) -> dict[str, object]:
    return json.loads(result.recipe_json)


def luma(picture: np.ndarray) -> np.ndarray:
    return picture @ [0.299, 0.587, 0.114]


# Regions


def test_a_mask_changes_only_its_region(server):
    # Adam moves each pixel by its own gradient only; L-BFGS scales each step by all gradients. The left half still
    # changes a little: the receptive fields of its features reach a few pixels across the border.
    how: dict[str, Any] = {
        "layers": ("conv1_1", "conv2_1"), "iterations": 8, "optimizer": o.OPTIMIZER_ADAM, "model": "vgg19-random",
        # Both jobs start from the same noise; noise in the colors of the styles would differ.
        "init": o.INIT_NOISE,
    }  # fmt: skip
    pictures = [
        painted(server, source(0, mask=LEFT), source(other, mask=RIGHT), precision=o.PRECISION_FLOAT32, **how)
        for other in (1, 2)
    ]
    difference = np.abs(pictures[0] - pictures[1])
    assert difference[:, 20:].mean() > 5
    assert difference[:, :12].mean() < difference[:, 20:].mean() / 10


def test_losses_have_the_number_of_their_region(server):
    plain = run(server, style(source(0), source(1)))
    assert not any(term.HasField("region") for term in plain.layer_losses)
    masked = run(server, style(source(0), source(1, mask=LEFT), source(2, mask=RIGHT), source(3, mask=LEFT)))
    regions = [term.region if term.HasField("region") else None for term in masked.layer_losses]
    # Styles with the same mask share a region: the two on the left. Styles without a mask have no region.
    assert regions == [None] * 5 + [1] * 5 + [2] * 5


def test_a_source_mask_takes_the_style_from_its_region(server):
    two = np.where(left_half()[..., None] > 0, flat(220, 30, 30), flat(30, 30, 220))
    red, blue = (
        painted(server, source(image(two), source_mask=mask), layers=("conv1_1",), iterations=30)
        for mask in (LEFT, RIGHT)
    )
    assert red[..., 0].mean() > red[..., 2].mean() + 60
    assert blue[..., 2].mean() > blue[..., 0].mean() + 60


# Initial pictures


def test_each_init_starts_from_the_picture_that_it_names(server):
    content, warm = np.asarray(Image.open(io.BytesIO(png(SIZE, SIZE)))).astype(int), o.InputImage(data=png(seed=3))

    def start(**fields: Any) -> np.ndarray:
        return pixels(transfer(server, image(content), warm, **(STAY | fields)).image.data)

    noise = start(init=o.INIT_NOISE)
    assert noise.mean() == pytest.approx(127.5, abs=4)
    assert np.array_equal(start(), content)
    assert np.array_equal(start(init_image=image(255 - content)), 255 - content)
    assert np.array_equal(start(init=o.INIT_BLEND, init_noise=0), content)
    assert np.array_equal(start(init=o.INIT_BLEND, init_noise=1), noise)
    assert np.abs(start(init=o.INIT_BLEND) - (content + noise) / 2).max() <= 1.5
    assert not np.array_equal(start(init=o.INIT_NOISE, seed=1), noise)


def test_init_style_statistics_has_the_colors_of_the_style(server):
    rng = np.random.default_rng(0)
    light = rng.normal(0, 20, (SIZE, SIZE, 1))
    warm = np.clip(flat(180, 120, 60) + light, 0, 255).astype(np.uint8)
    start = painted(server, source(image(warm)), init=o.INIT_STYLE_STATISTICS, **STAY)
    assert start.mean((0, 1)) == pytest.approx([180, 120, 60], abs=4)
    # The noise is gray like the style's: all channels get brighter or darker together.
    assert start.std((0, 1)) == pytest.approx([20, 20, 20], abs=3)
    assert np.corrcoef(start[..., 0].ravel(), start[..., 2].ravel())[0, 1] > 0.98


# The network and the loss


def test_replicated_padding_adds_no_frame_around_a_picture(server):
    # The padding of zeros is a smaller part of a picture twice as large, so that gray does not match gray at scale 2.
    gray = image(flat(128, 128, 128))
    sources = [source(gray, scale=2)]
    zeros, replicate = (
        run(server, style(*sources, init_image=gray, padding=padding, precision=o.PRECISION_FLOAT32, **STAY)).loss
        for padding in (o.PADDING_ZEROS, o.PADDING_REPLICATE)
    )
    assert zeros > 0.5
    assert replicate < 1e-6 * zeros


def test_rescaled_average_pooling_increases_the_losses_after_each_pooling(server):
    layers = ("conv2_1", "conv3_1", "conv4_1")
    how: dict[str, Any] = {"layers": layers, "precision": o.PRECISION_FLOAT32, **STAY}
    plain, rescaled, highest = (
        [term.loss for term in run(server, style(pooling=pooling, **how)).layer_losses]
        for pooling in (o.POOLING_AVERAGE, o.POOLING_AVERAGE_RESCALED, o.POOLING_MAX)
    )
    change = np.divide(rescaled, plain)
    assert change[0] == pytest.approx(1, rel=1e-3)  # before any pooling
    assert change[1] > 2
    assert change[2] > 1.5 * change[1]
    assert highest[1] != pytest.approx(rescaled[1], rel=1e-2)


def test_relative_losses_are_fractions_of_their_targets(server):
    gray, square, layers = image(flat(128, 128, 128)), o.InputImage(data=png(SIZE, SIZE)), ("conv1_1", "conv4_1")

    def grams(picture: o.InputImage) -> list[np.ndarray]:
        responses = server.models.ExtractFeatures(ExtractFeaturesRequest(image=picture, layers=layers))
        return list(arrays(list(responses)).values())

    how: dict[str, Any] = {
        "layers": layers, "init_image": gray, "precision": o.PRECISION_FLOAT32, "padding": o.PADDING_ZEROS, **STAY
    }  # fmt: skip
    terms = run(server, style(source(square), loss_scale=o.LOSS_SCALE_RELATIVE, **how)).layer_losses
    fractions = [((g - a) ** 2).sum() / (a**2).sum() for g, a in zip(grams(gray), grams(square), strict=True)]
    assert [term.loss * term.weight * len(terms) for term in terms] == pytest.approx(fractions, rel=1e-3)
    paper = run(server, style(loss_scale=o.LOSS_SCALE_PAPER, **how)).layer_losses
    assert [term.weight for term in paper] == [0.5, 0.5]


def test_each_style_has_its_own_scale(server):
    def run_at(*scales: float) -> job_pb2.JobResult:
        return run(server, style(*(source(seed, scale=scale) for seed, scale in enumerate(scales))))

    plain, scaled = run_at(1, 1), run_at(0.5, 2)
    assert [s["width"] for s in recipe(plain)["styles"]] == [32, 32]  # type: ignore[attr-defined]
    assert [s["width"] for s in recipe(scaled)["styles"]] == [16, 64]  # type: ignore[attr-defined]
    assert plain.image.data != scaled.image.data


# Colors

MUTED = image(np.clip(pixels(png(SIZE, SIZE)) // 4 + [60, 90, 130], 0, 255))
WARM = image(np.clip(pixels(png(SIZE, SIZE, seed=1)) // 2 + [120, 60, 0], 0, 255))


def test_color_mode_luminance_keeps_the_colors_of_the_content(server):
    content = pixels(MUTED.data)

    def change(color: o.ColorMode.ValueType) -> tuple[np.ndarray, np.ndarray]:
        """Returns the absolute differences in color and in brightness between the result and the content."""
        result = pixels(transfer(server, MUTED, WARM, color=color, iterations=20, model="vgg19-random").image.data)
        colors = (result - luma(result)[..., None]) - (content - luma(content)[..., None])
        return np.abs(colors), np.abs(luma(result) - luma(content))

    colors, brightness = change(o.COLOR_MODE_LUMINANCE)
    assert colors.max() < 1.5
    assert brightness.mean() > 3
    assert change(o.COLOR_MODE_STYLE)[0].mean() > 10


@pytest.mark.parametrize("color", [o.COLOR_MODE_MATCH, o.COLOR_MODE_HISTOGRAM], ids=["match", "histogram"])
def test_color_modes_match_and_histogram_give_the_result_the_colors_of_the_content(server, color):
    how: dict[str, Any] = {"iterations": 30, "init": o.INIT_NOISE}
    plain, matched = (
        pixels(transfer(server, MUTED, WARM, color=chosen, **how).image.data) for chosen in (o.COLOR_MODE_STYLE, color)
    )
    wanted = pixels(MUTED.data).mean((0, 1))
    assert np.abs(matched.mean((0, 1)) - wanted).max() < 12
    assert np.abs(plain.mean((0, 1)) - wanted).max() > 24


# The optimization


def test_averaging_returns_the_mean_of_the_iterates(server):
    preview = o.PreviewOptions(format=o.IMAGE_FORMAT_PNG)
    how: dict[str, Any] = {"optimizer": o.OPTIMIZER_ADAM, "learning_rate": 40, "averaging": 0.9999, "preview": preview}

    def last_and_result(iterations: int) -> tuple[np.ndarray, np.ndarray]:
        history = list(events(server.style.ReconstructStyle(style_request(iterations=iterations, **how))))
        shown = [e.progress.preview.data for e in history if e.HasField("progress")]
        return pixels(shown[-1]), pixels(history[-1].result.image.data)

    first, result_of_one = last_and_result(1)
    second, result_of_two = last_and_result(2)
    assert np.abs(first - second).mean() > 10
    assert np.abs(result_of_one - first).max() <= 1
    assert np.abs(result_of_two - (first + second) / 2).max() <= 1


def test_a_plateau_ends_the_job_early(server):
    result = run(server, style_request(**(STAY | {"iterations": 200, "report_every": 10, "plateau": 0.5})))
    # A plateau is measured over 50 iterations; the first report is at 10.
    assert result.iterations == 60
    assert recipe(result)["iterations"] == 60


def test_a_pyramid_starts_at_the_coarse_level(server):
    preview = o.PreviewOptions(format=o.IMAGE_FORMAT_PNG)
    result = run(server, style_request(size=64, iterations=16, scales=2))
    assert recipe(result)["levels"] == [
        {"width": 32, "height": 32, "iterations": 2},
        {"width": 64, "height": 64, "iterations": 14},
    ]
    assert (result.image.width, result.iterations) == (64, 16)
    assert result.image.data != run(server, style_request(size=64, iterations=16, scales=1)).image.data
    long = style_request(size=64, iterations=1_000_000, scales=2, preview=preview, time_limit=Duration(seconds=1))
    first, *_, last = (e.progress for e in events(server.style.ReconstructStyle(long)) if e.HasField("progress"))
    assert (first.preview.width, last.preview.width) == (32, 64)


def test_a_warm_start_runs_through_the_small_model_first(server):
    how: dict[str, Any] = {"size": 32, "iterations": 16, "scales": 2, "model": "vgg19-random"}
    warm, cold = (run(server, style_request(**how, warm_start=on)) for on in (True, False))
    levels: Any = recipe(warm)["levels"]
    assert [level.get("model") for level in levels] == [None, BUILTIN_MODEL, None]
    assert recipe(warm)["warm_start"] is True
    assert recipe(warm)["level_models"] == {BUILTIN_MODEL: ModelStore().get(BUILTIN_MODEL).manifest.sha256}
    assert not {"level_models"} & recipe(cold).keys()
    assert warm.iterations == cold.iterations == 16
    assert warm.image.data == run(server, style_request(**how, warm_start=True)).image.data != cold.image.data


def test_the_default_pyramid_depends_on_the_kind_and_the_optimizer(server):
    def sides(result: job_pb2.JobResult) -> list[int]:
        return [level["width"] for level in recipe(result)["levels"]]  # type: ignore[attr-defined]

    picture = o.InputImage(data=png(SIZE, SIZE))
    assert sides(run(server, style_request(size=112, iterations=8))) == [56, 112]
    assert sides(run(server, style_request(size=112, iterations=8, optimizer=o.OPTIMIZER_ADAM))) == [112]
    assert sides(transfer(server, picture, picture, size=112, iterations=8)) == [112]
    assert sides(transfer(server, picture, picture, size=256, iterations=8)) == [128, 256]
    content = pb.ReconstructContentRequest(content=picture, options=options(size=256, iterations=8))
    *_, last = submit(server, pb.EstimateJobRequest(content=content))
    assert sides(last.result) == [256]


@pytest.mark.parametrize("seconds", [0.3, 3])
def test_coarse_levels_take_a_share_of_the_time_limit(server, seconds):
    """However long it is: a coarse level that is optimized for long fits the statistics of the next level badly."""
    how: dict[str, Any] = {"size": 64, "scales": 2, "report_every": 2}
    start = run(server, style_request(**(how | STAY))).loss
    limit = Duration(nanos=int(seconds * 1e9) % 10**9, seconds=int(seconds))
    result = run(server, style_request(iterations=1_000_000, time_limit=limit, **how))
    assert result.iterations < 125_000  # An eighth of all iterations: the coarse level was not finished.
    assert pixels(result.image.data).shape == (64, 64, 3)
    assert result.loss < (0.5 if seconds < 1 else 0.05) * start


def test_lbfgs_history_changes_the_result(server):
    short, long = (run(server, style_request(iterations=10, lbfgs_history=n)) for n in (1, 30))
    assert short.image.data != long.image.data
    assert recipe(short)["lbfgs_history"] == 1


def test_a_tiled_job_makes_the_same_picture_as_an_untiled_job(server):
    how: dict[str, Any] = {"size": 128, "iterations": 3, "precision": o.PRECISION_FLOAT32}
    whole, tiled = (run(server, style_request(**how, **tile)) for tile in ({}, {"tile_size": 64}))
    assert (recipe(whole)["tile_size"], recipe(tiled)["tile_size"]) == (0, 64)
    assert np.abs(pixels(whole.image.data) - pixels(tiled.image.data)).max() <= 1
    assert tiled.loss == pytest.approx(whole.loss, rel=1e-3)


# Files


def file(server, format: o.ImageFormat.ValueType, bit_depth: int) -> bytes:
    """The result file of the same small job, in another format or bit depth."""
    result = run(server, style_request(result=o.ResultOptions(format=format, bit_depth=bit_depth)))
    assert result.image.format == format
    return result.image.data


def test_a_16_bit_png_has_16_bits_of_precision_and_a_color_profile(server):
    width, height, rows, info = pypng.Reader(bytes=file(server, o.IMAGE_FORMAT_PNG, 16)).read()
    fine = np.vstack([np.asarray(row) for row in rows]).reshape(height, width, 3)
    assert info["bitdepth"] == 16
    assert np.unique(fine % 257).size > 100  # not 8-bit values scaled to 16 bits
    coarse = file(server, o.IMAGE_FORMAT_PNG, 8)
    assert np.abs(fine / 257 - pixels(coarse)).max() <= 0.51
    for data in (coarse, file(server, o.IMAGE_FORMAT_PNG, 16)):
        assert "sRGB" in icc(Image.open(io.BytesIO(data)).info["icc_profile"])


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_a_tiff_has_the_pixels_the_color_profile_and_the_recipe(server, bit_depth):
    with tifffile.TiffFile(io.BytesIO(file(server, o.IMAGE_FORMAT_TIFF, bit_depth))) as tiff:
        page = tiff.pages[0]
        assert "sRGB" in icc(page.tags["InterColorProfile"].value)
        assert json.loads(page.description)["result"] == {"format": "tiff", "bit_depth": bit_depth}
        picture = page.asarray()
    assert picture.dtype == f"uint{bit_depth}"
    _, _, rows, _ = pypng.Reader(bytes=file(server, o.IMAGE_FORMAT_PNG, bit_depth)).read()
    assert np.array_equal(picture, np.vstack([np.asarray(row) for row in rows]).reshape(picture.shape))


def icc(profile: bytes) -> str:
    """The description in a color profile."""
    from PIL import ImageCms

    return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"init": o.INIT_CONTENT},
        {"init_image": RIGHT},
        {"init": o.INIT_BLEND, "init_noise": 0.0},
        {"init": o.INIT_BLEND},
        {"init": o.INIT_NOISE},
        {"init": o.INIT_STYLE_STATISTICS},
    ],
    ids=["default", "content", "image", "blend without noise", "blend", "noise", "style statistics"],
)
def test_a_seed_that_changes_nothing_gives_a_warning(server, fields):
    without, first, second = (transfer(server, LEFT, RIGHT, **STAY, **fields, seed=seed) for seed in (0, 1, 2))
    same = bool((pixels(first.image.data) == pixels(second.image.data)).all())
    warned = ["options.seed changes nothing" in each.recipe_json for each in (without, first, second)]
    assert warned == [False, same, same]
