"""A harbour town in the evening, smooth like a photograph: the content picture of the examples."""

import numpy as np
from PIL import Image, ImageDraw

from .painting import Array, color, grid, mix, noise, ramp, to_image

ASPECT = 0.75
HORIZON = 0.47
FINE = 2  # draw this much larger and scale down
BOATS = ((0.44, 0.52, 0.085, "2f5d6b"), (0.60, 0.565, 0.14, "e8dcc8"), (0.08, 0.60, 0.21, "8e2f35"))
# Outlines of a boat; its waterline goes from (0, 0) to (1, 0), y points up.
HULL = (
    (-0.05, 0.13),
    (0.12, 0.105),
    (0.5, 0.085),
    (1.0, 0.115),
    (0.94, 0.0),
    (0.88, -0.03),
    (0.12, -0.03),
    (0.04, 0.02),
)
TRIM = (
    (-0.05, 0.13),
    (0.12, 0.105),
    (0.5, 0.085),
    (1.0, 0.115),
    (0.99, 0.095),
    (0.5, 0.066),
    (0.12, 0.085),
    (-0.035, 0.105),
)
CABIN = ((0.18, 0.09), (0.22, 0.17), (0.50, 0.165), (0.60, 0.085))
SAIL = ((0.46, 0.215), (0.55, 0.235), (0.9, 0.215), (0.9, 0.19), (0.46, 0.18))  # furled on its boom
WINDOWS = ((0.27, 0.115), (0.37, 0.112), (0.46, 0.11))


def harbour(size: int = 640, seed: int = 0) -> Image.Image:
    """Draw the harbour, `size` pixels wide; the seed determines the town."""
    rng = np.random.default_rng([seed, 3])
    x, y = grid(size * FINE, ASPECT)
    scene = _sky(rng, x, y)
    for depth in (0.0, 0.45, 1.0):
        scene = _town(rng, scene, x, y, depth)
    ripple = noise(rng, x.shape, (95, 9), 3) * (0.15 + ramp(HORIZON, ASPECT, y))
    scene = _water(scene, ripple, x, y)
    for boat in BOATS:
        scene = _moor(scene, ripple, x, y, *boat)
    dim = 1.0 - 0.28 * ((x - 0.5) ** 2 + (y - 0.36) ** 2)
    scene = scene * dim[..., None] + rng.normal(0.0, 0.012, (*x.shape, 1))
    return to_image(scene).resize((size, round(size * ASPECT)), Image.Resampling.LANCZOS)


def _sky(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """The sky at dusk: warm colors near the set sun, with lit clouds."""
    sky = mix(color("f6b26b"), color("d98a86"), ramp(0.02, 0.16, HORIZON - y))
    sky = mix(sky, color("5f7fb4"), ramp(0.10, 0.32, HORIZON - y))
    sky = mix(sky, color("2c4a86"), ramp(0.26, 0.5, HORIZON - y))
    sky = mix(sky, color("ffe3a3"), np.exp(-((np.hypot(x - 0.33, 1.4 * (y - HORIZON + 0.05)) / 0.16) ** 2)))
    clouds = noise(rng, x.shape, (9, 2.2), 6)
    edge = clouds - np.roll(clouds, -max(1, x.shape[1] // 90), 0)
    tint = mix(color("7a6a8f"), color("ffd0a0"), ramp(-0.45, 0.5, edge))
    return mix(sky, tint, ramp(0.15, 1.7, clouds) * ramp(0.02, 0.12, HORIZON - y) * 0.85)


def _town(rng: np.random.Generator, scene: Array, x: Array, y: Array, depth: float) -> Array:
    """Add a row of houses and towers with some lit windows; `depth` 0 is far and hazy, 1 is near."""
    scale = 0.6 + 0.7 * depth
    left = -0.05
    while left < 1.05:
        wide = rng.uniform(0.028, 0.075) * scale
        # The houses are highest to the right of the middle.
        peak = np.exp(-(((left - 0.66) / 0.24) ** 2)) * (1.1 - 0.55 * depth)
        high = rng.uniform(0.035, 0.075) + peak * rng.uniform(0.06, 0.25)
        roof = rng.choice(["flat", "gable", "spire"], p=[0.45, 0.45, 0.10])
        scene = _house(rng, scene, x, y, (left, wide, high, depth), str(roof))
        left += wide * rng.uniform(0.75, 1.15) + (rng.random() < 0.12) * 0.04
    return scene


def _house(
    rng: np.random.Generator, scene: Array, x: Array, y: Array, plot: tuple[float, float, float, float], roof: str
) -> Array:
    """Add one building; `plot` is its left edge, width, height and depth."""
    left, wide, high, depth = plot
    columns = slice(max(0, int(left * x.shape[1])), max(0, int((left + wide) * x.shape[1]) + 1))
    if columns.stop <= columns.start or columns.start >= x.shape[1]:
        return scene
    px: Array = (x[:, columns] - left) / wide
    up: Array = (HORIZON + 0.004 - y[:, columns]) / high
    gable = {"flat": 0.0, "gable": 0.5 * wide / high, "spire": 1.6 * wide / high}[roof] * (1.0 - 2.0 * np.abs(px - 0.5))
    body = (px >= 0.0) & (px <= 1.0) & (up > 0.0) & (up < 1.0 + gable)
    wall = color(str(rng.choice(["3d3350", "54405a", "6b4b58", "473a66", "7d5a5c", "2f3557"])))
    walls = mix(np.broadcast_to(wall, (*px.shape, 3)), color("ffb27a"), 0.45 * ramp(0.6, 0.0, px))
    walls = mix(walls, color("8a4a45"), np.where(up > 1.0, 0.6, 0.0))
    rows, across = max(2, round(high / 0.017)), max(2, round(wide / 0.013))
    lit = rng.random((rows, across))
    row, col = np.clip((up * rows).astype(int), 0, rows - 1), np.clip((px * across).astype(int), 0, across - 1)
    pane = (np.abs(up * rows % 1.0 - 0.5) < 0.27) & (np.abs(px * across % 1.0 - 0.5) < 0.24) & (up < 0.96) & body
    glow = lit[row, col]
    walls = mix(walls, mix(color("ffdf8a"), color("fff3c9"), glow), 0.95 * pane * (glow > 0.62))
    walls = mix(walls, color("201c33"), 0.5 * pane * (glow <= 0.62))
    haze = mix(walls, color("c98f93"), 0.62 * (1.0 - depth))
    scene = scene.copy() if columns.start == 0 else scene
    scene[:, columns] = np.where(body[..., None], haze, scene[:, columns])
    return scene


def _water(scene: Array, ripple: Array, x: Array, y: Array) -> Array:
    """Add the water, with a reflection of the town distorted by ripples that grow toward the viewer, and a quay."""
    width = x.shape[1]
    depth = np.clip((y - HORIZON) / (ASPECT - HORIZON), 0.0, 1.0)
    up = HORIZON - (y - HORIZON) * 1.15 + 0.012 * ripple
    rows = np.clip(up * width, 0, HORIZON * width - 1).astype(int)
    columns = np.clip((x + 0.006 * ripple * np.sin(260 * y)) * width, 0, width - 1).astype(int)
    water = mix(scene[rows, columns], color("1d3354"), 0.22 + 0.38 * depth)
    water = mix(water, color("ffcf94"), 0.35 * ramp(0.9, 2.2, ripple) * ramp(0.5, 0.0, np.abs(x - 0.33)))
    wet = y > HORIZON + 0.004
    quay = (y > HORIZON - 0.004) & (y <= HORIZON + 0.008)
    return np.where(quay[..., None], color("2a2438"), np.where(wet[..., None], water, scene))


def _moor(scene: Array, ripple: Array, x: Array, y: Array, left: float, base: float, long: float, paint: str) -> Array:
    """Add a boat and its reflection; `left` and `base` are its left end and waterline, `long` its length."""
    width = x.shape[1]
    layer = Image.new("RGBA", (width, x.shape[0]))
    draw = ImageDraw.Draw(layer)

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [((left + px * long) * width, (base - py * long) * width) for px, py in points]

    rope, spar = max(1, width // 900), max(2, round(width * long * 0.02))
    for end in ((-0.03, 0.12), (0.98, 0.11), (0.4, 0.1)):
        draw.line(at((0.45, 1.15), end), "#4a3b45", rope)
    draw.line(at((0.45, 1.17), (0.45, 0.08)), "#6b4a3a", spar)
    draw.line(at((0.45, 0.18), (0.92, 0.195)), "#6b4a3a", spar)
    draw.polygon(at(*SAIL), "#e8c9a0")
    draw.polygon(at(*CABIN), "#f4e8d4")
    draw.polygon(at(*HULL), f"#{paint}")
    draw.polygon(at(*TRIM), "#fbead0")
    for px, py in WINDOWS:
        draw.rectangle(at((px, py + 0.03), (px + 0.06, py)), "#ffc65c")
    boat = np.asarray(layer, float) / 255.0
    shade = 1.06 - 0.5 * ramp(0.1 * long, -0.03 * long, base - y)

    rows = np.clip((2 * base - y + 0.022 * long - 0.006 * ripple) * width, 0, x.shape[0] - 1).astype(int)
    columns = np.clip((x + 0.10 * long * ripple) * width, 0, width - 1).astype(int)
    mirrored = boat[rows, columns] * (y > base + 0.02 * long)[..., None]
    scene = mix(
        scene, mirrored[..., :3] * 0.55 + color("1d3354") * 0.3, mirrored[..., 3] * ramp(1.1, 0.1, (y - base) / long)
    )
    return mix(scene, boat[..., :3] * shade[..., None], boat[..., 3])
