"""Paint the pictures of the gallery: `python docs/gallery/make.py [FEATURE …]`.

The inputs are the pictures that examples/pictures.py draws. The model is `vgg19-caffe` if installed, else the built-in
model.
"""

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import tifffile
from PIL import Image, ImageChops, ImageDraw, ImageFilter

import gramophone
from gramophone import Result, Style
from gramophone.contact_sheet import contact_sheet

HERE = Path(__file__).parent
SIZE = 192
# Rows whose pictures are larger on the sheet: a mosaic of 2x2 pictures.
CELLS = {"seamless": 288}

Paint = Callable[..., Result]  # Paint("transfer", harbour, night, color="match"): the result of client.transfer
Row = list[tuple[Image.Image, str]]


def words(options: dict[str, Any]) -> str:
    """Returns options as a caption."""
    return ", ".join(f"{name}={value}" for name, value in options.items())


def variants(paint: Paint, kind: str, *pictures: Any, of: list[dict[str, Any]], **options: Any) -> Row:
    """Paints a picture for each set of options in `of`, with the options as its caption."""
    return [(paint(kind, *pictures, **options, **some).image, words(some)) for some in of]


def band(top: float, bottom: float) -> Image.Image:
    """Returns a mask that is white between two heights (fractions of its height), with soft edges."""
    mask = Image.new("L", (256, 256))
    ImageDraw.Draw(mask).rectangle((0, round(256 * top), 255, round(256 * bottom)), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(3))


def shapes_drawn(size: tuple[int, int], mode: str, *shapes: tuple[str, Any, Any]) -> Image.Image:
    """Draws shapes, each a method of ImageDraw, a color, and points in fractions of the size, with smooth edges."""
    width, height = 4 * size[0], 4 * size[1]
    image = Image.new(mode, (width, height))
    draw = ImageDraw.Draw(image)
    for shape, color, points in shapes:
        getattr(draw, shape)([(x * width, y * height) for x, y in points], fill=color)
    return image.resize(size, Image.Resampling.LANCZOS)


# The regions of the drawn night, and a doodle of another landscape in the same colors.
SKY, STAR, WATER, GRASS = "#5aa0ff", "#ffdc00", "#2040a0", "#288c28"
EVERYWHERE = ((0, 0), (1, 1))
STARS = ((0.1, 0.15), (0.27, 0.07), (0.42, 0.12), (0.6, 0.09), (0.2, 0.41), (0.68, 0.42), (0.04, 0.52), (0.93, 0.44))
NIGHT = (
    ("rectangle", SKY, EVERYWHERE),
    *(("ellipse", STAR, ((x - 0.04, y - 0.045), (x + 0.04, y + 0.045))) for x, y in STARS),
    ("ellipse", STAR, ((0.71, 0.1), (0.91, 0.3))),
    ("polygon", WATER, ((0, 0.63), (1, 0.66), (1, 1), (0, 1))),
    ("polygon", GRASS, ((0, 0.77), (0.25, 0.8), (0.45, 0.92), (1, 0.97), (1, 1), (0, 1))),
)
DOODLE = (
    ("rectangle", SKY, EVERYWHERE),
    ("ellipse", STAR, ((0.1, 0.1), (0.32, 0.43))),
    ("ellipse", STAR, ((0.62, 0.12), (0.7, 0.24))),
    ("polygon", GRASS, ((0.5, 1), (0.68, 0.45), (0.8, 0.3), (0.9, 0.4), (1, 0.8), (1, 1))),
    ("polygon", WATER, ((0, 0.6), (0.63, 0.6), (0.5, 1), (0, 1))),
)


def bricks(size: int) -> Image.Image:
    """Returns a wall of bricks, a regular texture, `size` pixels a side."""
    rng = np.random.default_rng(4)
    # Draw it larger and scale it down, for smooth edges.
    side, rows, columns = 4 * size, 8, 4
    wall = Image.new("RGB", (side, side), (188, 182, 170))
    pen, width, height = ImageDraw.Draw(wall), side / columns, side / rows
    joint = height / 9
    for row in range(rows):
        for column in range(-1, columns):
            x, y = (column + row % 2 / 2) * width, row * height
            tint = np.array((158, 74, 56)) + rng.normal(0, 10) + rng.normal(0, 4, 3)
            pen.rectangle(
                (x + joint, y + joint, x + width - joint, y + height - joint), fill=tuple(tint.clip(0, 255).astype(int))
            )
    grain = rng.normal(0, 6, (size, size, 1))
    return Image.fromarray((np.asarray(wall.resize((size, size))) + grain).clip(0, 255).astype(np.uint8))


def rows(seascape: Path, night: Path, harbour: Path) -> dict[str, Callable[[Paint], Row]]:
    """Returns a function for each feature that paints its row."""

    def styles(paint: Paint) -> Row:
        mixed = [Style(night, weight=1, scale=2), Style(seascape, weight=3, scale=0.5)]
        named = {
            "night": night,
            "night + seascape": [night, seascape],
            "scale=0.5": Style(night, scale=0.5),
            "mixed": mixed,
        }
        return [(paint("style", some, layers=4).image, text) for text, some in named.items()]

    def masks(paint: Paint) -> Row:
        sky = band(0, 0.62).resize((256, 192))
        above = Style(night, mask=sky, source_mask=band(0, 0.55))
        below = Style(seascape, mask=band(0.62, 1), source_mask=band(0.42, 0.78))
        made = paint("transfer", harbour, [above, below], style_weight=1e4).image
        regions = Image.composite(Image.new("RGB", (256, 192), "navy"), Image.new("RGB", (256, 192), "tan"), sky)
        return [(Image.open(harbour), "content"), (regions, "night above, seascape below"), (made, "result")]

    def maps(paint: Paint) -> Row:
        regions, doodle = shapes_drawn(Image.open(night).size, "RGB", *NIGHT), shapes_drawn((288, 192), "RGB", *DOODLE)
        made = paint(
            "style", Style(night, source_map=regions), canvas_map=doodle, loss_scale="relative", size=288
        ).image
        pictures = (Image.open(night), "style"), (regions, "its map"), (doodle, "canvas_map"), (made, "result")
        return list(pictures)

    def transparency(paint: Paint) -> Row:
        tower = (("polygon", "white", ((0.5, 0.66), (0.5, 0.5), (0.57, 0.2), (0.62, 0.4), (0.8, 0.28), (0.84, 0.66))),)
        content = Image.open(harbour).convert("RGB")
        alpha = shapes_drawn(content.size, "L", *tower, ("ellipse", "white", ((0.02, 0.6), (0.98, 0.96))))
        content.putalpha(alpha.filter(ImageFilter.GaussianBlur(2)))
        made = paint("transfer", content, night, style_weight=100).image
        ground = Image.new("RGBA", made.size, "#f4a6c0")
        ground.alpha_composite(made)
        return [(content, "content"), (made, "result"), (ground, "result on another ground")]

    def layer_weights(paint: Paint) -> Row:
        shallow = {"conv1_1": 100, "conv2_1": 10, "conv3_1": 1, "conv4_1": 0.01}
        given: dict[str, Any] = {"conv1_1 only": 1, "equal weights, to conv4_1": 4, "shallow ones weigh more": shallow}
        return [(paint("style", night, layers=layers).image, text) for text, layers in given.items()]

    def losses(paint: Paint) -> Row:
        names = ("gram", "mean_covariance", "sliced_wasserstein")
        return [(paint("style", night, style_loss=name, init="noise").image, name) for name in names]

    def spectrum(paint: Paint) -> Row:
        wall = bricks(128)
        given: dict[str, Any] = {"gram": "gram", "gram and spectrum": {"gram": 1, "spectrum": 1}}
        made = [(paint("style", wall, style_loss=loss, size=128).image, text) for text, loss in given.items()]
        return [(wall, "style"), *made]

    def anytime(paint: Paint) -> Row:
        limits: list[dict[str, Any]] = [{"time_limit": 4}, {"plateau": 0.5}, {}]
        made = [paint("transfer", harbour, night, iterations=150, report_every=2, **some) for some in limits]
        names = [words(some) or "no limit" for some in limits]
        return [(one.image, f"{name}: {one.iterations} steps") for one, name in zip(made, names, strict=True)]

    def tiff(paint: Paint) -> Row:
        soft: dict[str, Any] = {"layer": "conv1_1", "init": "content", "tv_weight": 1e7}
        deep = paint("content", harbour, result_format="tiff", bit_depth=16, **soft)
        levels = tifffile.imread(io.BytesIO(deep.data))[..., 1] / 257  # green, of 0 to 255
        corners = [(y, x) for y in range(0, levels.shape[0] - 12, 4) for x in range(0, levels.shape[1] - 12, 4)]
        y, x = min(corners, key=lambda at: float(np.ptp(levels[at[0] : at[0] + 12, at[1] : at[1] + 12])))
        patch = levels[y : y + 12, x : x + 12]
        shown: Row = [(deep.image, "all of it")]
        for values, text in ((patch.round(), "calmest patch, 8 bits"), (patch, "the same in 16 bits")):
            gray = Image.fromarray(((values - patch.min()) / np.ptp(patch) * 255).clip(0, 255).astype(np.uint8))
            shown.append((gray.resize((SIZE, SIZE), Image.Resampling.NEAREST), text))
        return shown

    def seamless(paint: Paint) -> Row:
        def mosaic(wrap: str, *given: Any) -> tuple[Image.Image, str]:
            made = np.asarray(paint(*given, size=CELLS["seamless"] // 2, wrap=wrap).image)
            return Image.fromarray(np.tile(made, (2, 2, 1))), f"{given[0]}, wrap={wrap}"

        given: list[tuple[Any, ...]] = [("style", night), ("transfer", harbour, night)]
        return [mosaic(wrap, *pictures) for pictures in given for wrap in ("none", "both")]

    def difference(of: list[dict[str, Any]], times: int, **options: Any) -> Callable[[Paint], Row]:
        def row(paint: Paint) -> Row:
            made = variants(paint, "transfer", harbour, night, of=of, iterations=10, scales=1, **options)
            apart = ImageChops.difference(made[0][0], made[1][0]).point(lambda level: times * level)
            return [*made, (apart, f"difference, {times}-fold")]

        return row

    def corners(of: list[dict[str, Any]]) -> Callable[[Paint], Row]:
        def row(paint: Paint) -> Row:
            made = variants(paint, "transfer", harbour, night, of=of)
            corner = (0, made[0][0].height - SIZE // 4, SIZE // 4, made[0][0].height)
            return [(image.crop(corner).resize((SIZE, SIZE), Image.Resampling.NEAREST), text) for image, text in made]

        return row

    def each(kind: str, *pictures: Any, of: list[dict[str, Any]], **options: Any) -> Callable[[Paint], Row]:
        return lambda paint: variants(paint, kind, *pictures, of=of, **options)

    colors = ("style", "luminance", "match", "histogram")
    inits = ("noise", "content", "style_statistics", "blend")
    return {
        "pyramid": each("style", Style(night, scale=1.5), of=[{"scales": 1}, {"scales": 3}], size=256),
        "styles": styles,
        "masks": masks,
        "maps": maps,
        "transparency": transparency,
        "color": each("transfer", harbour, night, of=[{"color": color} for color in colors]),
        "pooling": each("style", night, of=[{"pooling": p} for p in ("max", "average", "average_rescaled")], scales=1),
        "padding": corners([{"padding": padding} for padding in ("zeros", "replicate", "margin")]),
        "seamless": seamless,
        "start": each("style", night, of=[{"init": name} for name in ("noise", "style_statistics")]),
        "total_variation": each("style", seascape, of=[{"tv_weight": w} for w in (0, 2_000, 10_000)], layers=3),
        "init": lambda paint: [
            *variants(paint, "transfer", harbour, night, of=[{"init": name} for name in inits], iterations=30),
            (paint("transfer", harbour, night, init=seascape, iterations=30).image, "init=seascape.png"),
        ],
        "averaging": each("transfer", harbour, night, of=[{"averaging": a} for a in (0, 0.97)]),
        "layer_weights": layer_weights,
        "loss_scale": each("style", night, of=[{"loss_scale": s} for s in ("paper", "relative")], scales=1),
        "losses": losses,
        "spectrum": spectrum,
        "anytime": anytime,
        "tiff": tiff,
        "tiles": difference([{"tile_size": 8192}, {"tile_size": 64}], times=20, precision="float32"),
        "optimizers": each("style", night, of=[{"optimizer": o} for o in ("adam", "lbfgs")], layers=4, scales=1),
        "content": each("content", harbour, of=[{"layer": f"conv{block}_1"} for block in range(1, 6)]),
    }


def main(chosen: list[str]) -> None:
    """Draw the inputs, start a server, and paint the rows of the `chosen` features, or of all if none is chosen."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, HERE.parents[1] / "examples/pictures.py", folder, "512"], check=True)
        drawn = [Path(folder, f"{name}.png") for name in ("seascape", "night", "harbour")]
        with gramophone.EmbeddedServer() as server, gramophone.Client(server.address) as client:
            names = [model.name for model in client.models()]
            common = {"model": "vgg19-caffe" if "vgg19-caffe" in names else names[0], "preview_every": 0}

            def paint(kind: str, *pictures: Any, **options: Any) -> Result:
                options = {"size": SIZE, "iterations": 70} | common | options
                return cast(Result, getattr(client, kind)(*pictures, **options).result())

            for name, row in rows(*drawn).items():
                if not chosen or name in chosen:
                    sheet, path = contact_sheet([row(paint)], cell=CELLS.get(name, SIZE)), HERE / f"{name}.jpg"
                    sheet.save(path, quality=85, optimize=True)
                    if path.stat().st_size > 60_000:  # grainy pictures need a lower quality
                        sheet.save(path, quality=70, optimize=True)
                    print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
