"""A beach, sails and a cliff in dots of varied color, in the style of Théo van Rysselberghe."""

import numpy as np
from PIL import Image

from .painting import Array, Easel, broken, color, grid, mix, noise, ramp, sample, scatter

ASPECT = 0.8
SKETCH = 640  # width in pixels of the color sketch, for every size of the picture


def seascape(size: int = 640, seed: int = 0) -> Image.Image:
    """Draw the seascape, `size` pixels wide; the seed determines the weather."""
    rng = np.random.default_rng([seed, 1])
    plan, angles, grain, detail = _coast(rng)
    easel = Easel(size, ASPECT, "d9c9a3")
    for spacing, length, width, hue, focus in (
        (0.0125, 0.026, 0.015, 0.035, 0.0),
        (0.0075, 0.0165, 0.0085, 0.045, 0.0),
        (0.006, 0.0115, 0.0062, 0.055, 0.0),
        (0.0036, 0.0085, 0.0042, 0.035, 0.5),  # only details such as the sails need a finer brush
    ):
        x, y = scatter(rng, ASPECT, spacing)
        near = sample(detail, x, y) >= focus
        x, y = x[near], y[near]
        tints = broken(rng, sample(plan, x, y), hue, 0.05)
        # Give a few dabs the complementary color at the same lightness, which makes the other colors look brighter.
        spark = rng.random(len(x)) < 0.05 * (focus == 0.0)
        tints[spark] = np.clip(1.9 * tints[spark].mean(1, keepdims=True) - 0.9 * tints[spark], 0.0, 1.0)
        turn = sample(angles, x, y) + rng.normal(0.0, 0.25, len(x))
        long = sample(grain, x, y) * rng.uniform(0.75, 1.25, len(x))
        thick = rng.random(len(x))
        for i in range(len(x)):
            easel.dab((x[i], y[i]), length * long[i], width, turn[i], tints[i], thick[i])
    return easel.finish(0.3)


def _coast(rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Color, direction and relative length of the dabs, and where a fine brush is needed, for each point."""
    x, y = grid(SKETCH, ASPECT)
    horizon = 0.315
    sun = np.hypot(x - 0.36, (y - horizon + 0.055) * 1.25)
    clouds = noise(rng, x.shape, (7, 3)) - 3.0 * (y - 0.16) ** 2
    plan = mix(color("f7d9a0"), color("7fb2dd"), ramp(0.04, 0.26, horizon - y))
    plan = mix(plan, color("3f74bd"), ramp(0.14, 0.36, horizon - y))
    plan = mix(plan, color("f6e3d0"), ramp(0.25, 1.5, clouds) * 0.9)
    plan = mix(plan, color("d99bb0"), ramp(0.2, 0.9, clouds) * ramp(-0.2, 0.9, np.roll(clouds, -14, 0)) * 0.25)
    plan = mix(plan, color("fff2b8"), np.exp(-((sun / 0.13) ** 2)))
    angles = 0.5 * np.sin(5.0 * x + 3.0 * y) - 0.2
    grain = np.full(x.shape, 1.0)

    far = horizon - 0.04 * ramp(0.34, 0.0, x) - 0.008 * np.sin(21 * x) * ramp(0.3, 0.1, x)
    plan = np.where((y > far)[..., None], mix(color("9aa5d6"), color("e7b8a9"), ramp(0.0, 0.04, y - far)), plan)

    sea = y > horizon
    depth = (y - horizon) / (ASPECT - horizon)
    swell = noise(rng, x.shape, (60, 5), 3) * ramp(0.0, 0.1, depth) + np.sin(150 * np.abs(depth) ** 0.6 + 5.0 * x) * 0.3
    water = mix(color("b9d4d6"), color("3f8fb5"), ramp(0.0, 0.35, depth))
    water = mix(water, color("2b5f9e"), ramp(0.2, 1.6, swell) * 0.8)
    water = mix(water, color("79c3b4"), ramp(0.25, 0.7, depth) * ramp(-0.4, 1.0, -swell) * 0.8)
    path = np.exp(-(((x - 0.36) / (0.045 + 0.22 * depth)) ** 2))
    water = mix(water, color("ffe9ae"), path * ramp(-0.7, 0.9, swell) * (1.0 - 0.5 * depth))
    plan = np.where(sea[..., None], water, plan)
    angles, grain = np.where(sea, 0.0, angles), np.where(sea, 1.35, grain)

    edge = noise(rng, x.shape, (1, 16), 3)[:1]
    cliff = horizon + 0.012 - 0.225 * ramp(0.60, 0.80, x) - 0.05 * ramp(0.82, 0.97, x) + 0.006 * edge
    rock = (y > cliff) & (y < horizon + 0.012) & (x > 0.6)
    face = mix(
        color("e9a765"), color("6a66a8"), ramp(-0.02, 0.10, y - cliff + 0.018 * noise(rng, x.shape, (10, 26), 3))
    )
    face = mix(face, color("6d9a5b"), ramp(0.02, 0.0, y - cliff) * ramp(0.66, 0.8, x))
    plan = np.where(rock[..., None], face, plan)
    angles, grain = np.where(rock, 1.15, angles), np.where(rock, 1.1, grain)
    mirrored = sea & (y > horizon + 0.012) & (y < horizon + 0.012 + 0.55 * (horizon - cliff)) & (x > 0.62)
    plan = np.where(mirrored[..., None], mix(plan, color("5a6bb0"), 0.55 + 0.25 * np.tanh(swell)), plan)

    detail = np.zeros(x.shape)
    for left, base, high in ((0.19, 0.385, 0.165), (0.30, 0.348, 0.075), (0.52, 0.355, 0.095)):
        _sail(plan, angles, detail, x, y, left, base, high)

    shore = 0.615 + 0.075 * x**2 + 0.045 * np.sin(3.4 * x + 0.4) + 0.006 * edge
    sand = mix(color("c9a06a"), color("f1cf93"), ramp(0.0, 0.09, y - shore))
    sand = mix(sand, color("e2987a"), ramp(0.1, 1.6, noise(rng, x.shape, (9, 4), 3)) * 0.75)
    sand = mix(sand, color("9a86b8"), ramp(0.5, 1.6, noise(rng, x.shape, (14, 5), 3)) * 0.7)
    foam = np.exp(-(((y - shore + 0.006) / 0.009) ** 2)) + 0.6 * np.exp(
        -(((y - shore + 0.045 - 0.02 * x) / 0.006) ** 2)
    )
    beach = y > shore
    plan = np.where(beach[..., None], sand, plan)
    plan = mix(plan, color("fffaf0"), foam)
    tilt = np.gradient(shore, axis=1) * SKETCH
    angles = np.where(y > shore - 0.06, np.arctan(tilt), angles)

    dune = 0.80 - 0.15 * ramp(0.42, 0.0, x) + 0.012 * edge
    grass = mix(color("d8b45e"), color("3d6b58"), ramp(0.0, 0.07, y - dune + 0.03 * noise(rng, x.shape, (8, 20), 3)))
    plan = np.where((y > dune)[..., None], grass, plan)
    return plan, np.where(y > dune - 0.01, -1.2 + 0.6 * np.sin(19 * x), angles), grain, detail


def _sail(plan: Array, angles: Array, detail: Array, x: Array, y: Array, left: float, base: float, high: float) -> None:
    """Paint a sailing boat and its reflection into the sketch, in place."""
    up, across = (base - y) / high, (x - left) / high
    main = (up > 0.08) & (up < 1.0) & (across > 0.015) & (across < 0.5 * np.sqrt(np.clip(1 - up, 0.0, 1.0)))
    jib = (up > 0.10) & (up < 0.88) & (across < -0.015) & (across > -0.34 * (0.88 - up))
    plan[main] = mix(color("fff4d6"), color("f2a05f"), ramp(0.12, 0.5, across[main] + 0.15 * up[main]))
    plan[jib] = mix(color("f6c99a"), color("cf6f5a"), ramp(-0.05, -0.3, across[jib]))
    hull = (up <= 0.07) & (up > -0.04) & (np.abs(across - 0.06) < 0.42 + 1.2 * np.minimum(up - 0.03, 0.0))
    plan[hull] = color("5b2340")
    wave = 0.06 * np.sin(1.6 * y * SKETCH) * np.abs(up)
    mirror = (up <= -0.04) & (up > -0.85) & (np.abs(across - 0.08 + wave) < 0.30 * (1 + up))
    plan[mirror] = mix(plan[mirror], color("f5c48f"), 0.75)
    angles[main | jib] = 1.35
    detail[main | jib | hull] = 1.0
