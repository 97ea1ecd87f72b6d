"""Drawing tools: noise, color variation, and a canvas for dabs and strokes with a relief of paint.

All positions and lengths are in units of the picture's width, so a seed gives the same picture at every size.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float64]

OVERSAMPLE = 3  # draw this much larger and scale down, because ImageDraw does not antialias
# Rows: lightness, yellow-blue, red-green. Colors vary more along the last two axes than in lightness.
OPPONENT = np.array([[1.0, 1.0, 1.0], [0.8, 0.7, -1.5], [1.0, -0.9, -0.1]])
ROUND = np.linspace(0.0, 2.0 * np.pi, 11, endpoint=False)


def color(code: str) -> Array:
    """An "rrggbb" color as three numbers from 0 to 1."""
    return np.frombuffer(bytes.fromhex(code), np.uint8) / 255.0


def mix(a: Array, b: Array, share: Array | float) -> Array:
    """Interpolate colors: `a` where `share` is 0, `b` where it is 1; `share` has no color axis."""
    share = np.clip(np.asarray(share, float), 0.0, 1.0)[..., None]
    return a * (1.0 - share) + b * share


def ramp(low: float, high: float, x: Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[float, float], octaves: int = 4) -> Array:
    """Smooth noise, mean 0 and standard deviation 1, shape (height, width).

    `cells` is the number of coarsest bumps (down, across); each further octave has twice as many.
    """
    total = np.zeros(shape)
    for octave in range(octaves):
        lattice = rng.standard_normal([max(2, round(n * 2**octave)) for n in cells]).astype(np.float32)
        total += np.asarray(Image.fromarray(lattice).resize(shape[::-1], Image.Resampling.BICUBIC), float) / 2**octave
    return np.asarray((total - total.mean()) / total.std())


def grid(width: int, aspect: float) -> tuple[Array, Array]:
    """x and y coordinates of the pixels of a picture `width` pixels wide and `aspect` times as high."""
    y, x = np.mgrid[0 : round(width * aspect), 0:width]
    return (x + 0.5) / width, (y + 0.5) / width


def sample(field: Array, x: Array, y: Array) -> Array:
    """Values of `field` (height, width, ...) at the points (x, y)."""
    height, width = field.shape[:2]
    rows = np.clip(y * width, 0, height - 1).astype(int)
    return np.asarray(field[rows, np.clip(x * width, 0, width - 1).astype(int)])


def scatter(rng: np.random.Generator, aspect: float, spacing: float) -> tuple[Array, Array]:
    """Random points about `spacing` apart, also slightly outside the picture, in random order."""
    x, y = np.meshgrid(np.arange(-spacing, 1.0 + spacing, spacing), np.arange(-spacing, aspect + spacing, spacing))
    order = rng.permutation(x.size)
    jitter = rng.uniform(-0.6, 0.6, (2, x.size)) * spacing
    return (x.ravel() + jitter[0])[order], (y.ravel() + jitter[1])[order]


def broken(rng: np.random.Generator, colors: Array, hue: float, light: float) -> Array:
    """Random variations of colors (n, 3) around the same mean, as in divisionist painting."""
    stray = rng.standard_normal((len(colors), 3)) * [light, hue, hue]
    return np.asarray(np.clip(colors + stray @ OPPONENT, 0.0, 1.0))


class Easel:
    """A canvas: a picture and the thickness of its paint."""

    def __init__(self, size: int, aspect: float, ground: str) -> None:
        """Create a canvas `size` pixels wide with the background color `ground` ("rrggbb")."""
        self.extent = (size, round(size * aspect))
        self._scale = size * OVERSAMPLE
        large = (self.extent[0] * OVERSAMPLE, self.extent[1] * OVERSAMPLE)
        self._paint = Image.new("RGB", large, f"#{ground}")
        self._relief = Image.new("L", large, 96)
        self._draw = ImageDraw.Draw(self._paint), ImageDraw.Draw(self._relief)

    def dab(
        self, at: tuple[float, float], length: float, width: float, angle: float, rgb: Array, height: float
    ) -> None:
        """Paint an ellipse with its long axis along `angle` (radians); `height` (0 to 1) is the paint's thickness."""
        along, across = np.cos(ROUND) * length / 2, np.sin(ROUND) * width / 2
        cos, sin = np.cos(angle), np.sin(angle)
        outline = np.stack([at[0] + cos * along - sin * across, at[1] + sin * along + cos * across], 1)
        self._polygon(outline, rgb, height)

    def stroke(self, path: Array, width: float, bristles: Array, heights: Array) -> None:
        """Paint a stroke along `path` (n, 2), tapered at both ends, in parallel bands of `bristles` (k, 3) colors."""
        along = np.gradient(path, axis=0)
        normal = np.stack([-along[:, 1], along[:, 0]], 1) / (np.hypot(*along.T)[:, None] + 1e-9)
        taper = normal * np.sqrt(np.sin(np.linspace(0.12, np.pi - 0.12, len(path)))[:, None]) * width
        sides = [path + taper * share for share in np.linspace(-0.5, 0.5, len(bristles) + 1)]
        for left, right, rgb, height in zip(sides, sides[1:], bristles, heights, strict=False):
            self._polygon(np.concatenate([left, right[::-1]]), rgb, height)

    def _polygon(self, outline: Array, rgb: Array, height: float) -> None:
        corners: list[float] = (outline * self._scale).ravel().tolist()
        red, green, blue = (round(255 * v) for v in rgb.tolist())
        self._draw[0].polygon(corners, (red, green, blue))
        self._draw[1].polygon(corners, round(255 * height))

    def finish(self, relief: float = 0.35) -> Image.Image:
        """The picture, lit from the upper left; `relief` is the strength of light and shadow at edges of the paint."""
        paint = np.asarray(self._paint.resize(self.extent, Image.Resampling.LANCZOS), float)
        height = np.asarray(self._relief.resize(self.extent, Image.Resampling.BOX), float) / 255.0
        slope = sum(np.gradient(height))
        return to_image(paint / 255.0 * (1.0 + relief * np.clip(slope, -0.6, 0.6))[..., None])


def to_image(rgb: Array) -> Image.Image:
    """Convert numbers from 0 to 1, shape (height, width, 3), to a picture."""
    return Image.fromarray(np.rint(np.clip(rgb, 0.0, 1.0) * 255).astype(np.uint8))
