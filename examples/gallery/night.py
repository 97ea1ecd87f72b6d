"""A night with wind: thick strokes along a vector field, around stars and over a bay."""

import numpy as np
from PIL import Image

from .painting import Array, Easel, broken, color, grid, mix, noise, ramp, sample, scatter

ASPECT = 0.8
SKETCH = 480  # width in pixels of the color sketch and its vector field, for every size of the picture
MOON = (0.79, 0.155)
STARS = (
    (0.10, 0.12),
    (0.27, 0.07),
    (0.20, 0.33),
    (0.415, 0.105),
    (0.60, 0.07),
    (0.93, 0.36),
    (0.68, 0.34),
    (0.04, 0.42),
)
EDDIES = ((0.42, 0.285, 0.125, 1.0), (0.585, 0.235, 0.085, -1.0), (0.87, 0.44, 0.07, 1.0))  # x, y, radius, direction


def night(size: int = 640, seed: int = 0) -> Image.Image:
    """Draw the night, `size` pixels wide; the seed determines the wind."""
    rng = np.random.default_rng([seed, 2])
    x, y = grid(SKETCH, ASPECT)
    land = _land(rng, x, y)
    plan, flow = _sky(rng, x, y)
    plan, flow = _earth(rng, x, y, land, plan, flow)
    easel = Easel(size, ASPECT, "0c1638")
    for spacing, length, width, bristles in (
        (0.022, 0.13, 0.024, 5),
        (0.0125, 0.075, 0.0125, 4),
        (0.0095, 0.045, 0.0082, 3),
    ):
        px, py = scatter(rng, ASPECT, spacing)
        paths = _follow(flow, np.stack([px, py], 1), length, 14)
        tints = sample(plan, px, py)
        # End strokes at the border of the hills, so that hills and sky do not mix.
        inside = sample(land, paths[..., 0], paths[..., 1]) == sample(land, px, py)[:, None]
        strands = broken(rng, np.repeat(tints, bristles, 0), 0.022, 0.06).reshape(-1, bristles, 3)
        widths, heights = width * rng.uniform(0.8, 1.2, len(px)), rng.random((len(px), bristles))
        for i in np.flatnonzero(inside.sum(1) > 3):
            easel.stroke(paths[i][inside[i]], widths[i], strands[i], heights[i])
    return easel.finish(0.5)


def _follow(flow: Array, start: Array, length: float, steps: int) -> Array:
    """Streamlines of `flow` centered at the points `start` (n, 2); shape (n, steps + 1, 2)."""
    halves = []
    for sense in (-1.0, 1.0):
        points = [start]
        for _ in range(steps // 2):
            points.append(points[-1] + sense * length / steps * sample(flow, *points[-1].T))
        halves.append(points)
    return np.stack([*halves[0][:0:-1], *halves[1]], 1)


def _sky(rng: np.random.Generator, x: Array, y: Array) -> tuple[Array, Array]:
    """Colors of the sky and directions of the wind."""
    bend = noise(rng, x.shape, (3, 4), 2)
    tilt = 0.35 * np.sin(5.2 * x + 1.0) + 0.25 * bend
    flow = np.stack([np.cos(tilt), np.sin(tilt)], -1)
    rivers = 0.5 + 0.5 * np.sin(34.0 * (y + 0.06 * np.sin(5.2 * x + 2.4)) + 1.6 * bend)
    plan = mix(color("16307a"), color("2f6fc0"), rivers)
    plan = mix(plan, color("8fc3d8"), ramp(0.72, 1.0, rivers) * 0.75)
    plan = mix(plan, color("0f1f58"), ramp(0.28, 0.0, y) * 0.45)
    plan = mix(plan, color("b6d3b4"), np.exp(-(((y - 0.47) / 0.05) ** 2)) * 0.6)
    for cx, cy, radius, sense in EDDIES:
        away, turn = _around(x, y, cx, cy)
        flow += 5.0 * sense * turn * np.exp(-((away / radius) ** 2))[..., None]
        phase = np.arctan2(y - cy, x - cx) * sense - 3.2 * np.log(away / radius + 0.08)
        arms = mix(color("1b3f92"), color("d9ecdf"), ramp(-0.5, 1.0, np.sin(2.0 * phase)))
        plan = mix(plan, arms, np.exp(-((away / radius) ** 4)) * 0.9)
    for n, (cx, cy) in enumerate((*STARS, MOON)):
        moon = (cx, cy) == MOON
        radius = 0.105 if moon else rng.uniform(0.042, 0.062)
        away, turn = _around(x, y, cx, cy)
        flow += 6.0 * (-1.0) ** n * turn * np.exp(-((away / radius / 1.1) ** 2))[..., None]
        halo = mix(color("f7dd6b"), color("e0a32e"), 0.5 + 0.5 * np.sin(away / radius * 11.0))
        halo = mix(halo, color("8fc08f"), ramp(0.55, 1.0, away / radius))
        plan = mix(plan, halo, 1.15 * np.exp(-((away / radius) ** 3)))
        plan = mix(plan, color("fff7cf"), ramp(0.42, 0.26, away / radius))
        if moon:
            shadow = np.hypot(x - cx + 0.022, y - cy + 0.012) / radius
            plan = mix(plan, color("e0b040"), ramp(0.36, 0.30, shadow) * ramp(0.5, 0.4, away / radius))
    return plan, flow / (np.hypot(flow[..., 0], flow[..., 1])[..., None] + 1e-6)


def _around(x: Array, y: Array, cx: float, cy: float) -> tuple[Array, Array]:
    """Distance from a center, and the tangential unit vector around it."""
    away = np.hypot(x - cx, y - cy) + 1e-6
    return away, np.stack([-(y - cy), x - cx], -1) / away[..., None]


def _land(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """The part of the picture at each point: 0 sky, 1 far hills, 2 bay, 3 near hill."""
    bumps = noise(rng, x.shape, (1, 7), 2)[:1]
    far = 0.535 - 0.055 * ramp(0.38, 0.05, x) - 0.05 * ramp(0.55, 0.85, x) + 0.009 * bumps
    near = 0.735 - 0.13 * ramp(0.52, 0.02, x) + 0.05 * ramp(0.45, 0.7, x) - 0.06 * ramp(0.74, 1.0, x) - 0.008 * bumps
    part = np.where(y > far, 1.0, 0.0)
    part[y > 0.555] = 2.0
    part[y > near] = 3.0
    return part


def _earth(rng: np.random.Generator, x: Array, y: Array, land: Array, plan: Array, flow: Array) -> tuple[Array, Array]:
    """Add the hills and the bay to the colors and directions of the sky."""
    mottle = noise(rng, x.shape, (12, 14), 3)
    far = mix(color("274b8f"), color("12265c"), ramp(-0.9, 0.9, mottle))
    water = mix(color("2a66ad"), color("13357c"), ramp(-0.7, 0.8, noise(rng, x.shape, (50, 4), 2)))
    for cx, _ in (*STARS, MOON):
        column = np.exp(-(((x - cx + 0.006 * np.sin(130 * y)) / (0.03 if cx == MOON[0] else 0.013)) ** 2))
        water = mix(water, color("f3cf62"), column * ramp(-0.9, 0.5, np.sin(150 * y + 9 * cx)) * ramp(0.74, 0.58, y))
    furrow = np.sin(95.0 * (y - 0.35 * x + 0.25 * x**2) + 0.7 * mottle)
    near = mix(color("0d2b3f"), color("2f6a4f"), ramp(-0.6, 0.9, furrow))
    near = mix(near, color("b7a33f"), ramp(0.75, 1.0, furrow) * 0.6)
    lamps = np.zeros(x.shape)
    for lamp in np.linspace(0.30, 0.97, 11) + rng.uniform(-0.02, 0.02, 11):
        lamps += np.exp(-((np.hypot(x - lamp, 1.2 * (y - 0.548)) / 0.0085) ** 2))
    far = mix(far, color("ffc14d"), lamps)
    for part, tints, tilt in ((1.0, far, 0.3 * np.sin(9 * x)), (2.0, water, 0.0 * x), (3.0, near, 0.35 - 0.5 * x)):
        inside = land == part
        plan = np.where(inside[..., None], tints, plan)
        flow = np.where(inside[..., None], np.stack([np.cos(tilt), np.sin(tilt)], -1), flow)
    return plan, flow
