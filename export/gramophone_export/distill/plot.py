"""Plots the errors during a training as an SVG picture."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from gramophone_server.models.layers import STYLE_LAYERS

WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT = 720, 320, 48, 36, 84
_COLORS = ("#888888", "#4269d0", "#3ca951", "#efb118", "#ff725c")


def plot(log: Path) -> str:
    """Returns an SVG picture with the relative error of each style layer's Gram matrices on a logarithmic scale.

    Args:
        log: file with one JSON object per line, as `Training` writes it.
    """
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps: list[int] = [line["step"] for line in lines]
    curves = {name: _smoothed([line["grams"][name] for line in lines]) for name in STYLE_LAYERS}
    values: list[float] = [value for curve in curves.values() for value in curve]
    low, high = math.log10(min(values)), math.log10(max(values))

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / steps[-1]

    def y(value: float) -> float:
        share = (math.log10(value) - low) / ((high - low) or 1.0)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 12) * share

    parts = [_text(WIDTH / 2, HEIGHT - 6, "updates; the error is that of Gram matrices of photographs and of iterates")]
    for tick in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2):
        if low <= math.log10(tick) <= high:
            parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
            parts.append(_text(LEFT - 6, y(tick) + 4, f"{tick:g}", "end"))
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_text(x(share * steps[-1]), HEIGHT - BOTTOM + 16, f"{share * steps[-1]:.0f}"))
    for (name, curve), color in zip(curves.items(), _COLORS, strict=True):
        points = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in zip(steps, curve, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        parts.append(_text(WIDTH - RIGHT + 6, y(curve[-1]) + 4, name, "start", color))
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    style = 'font-family="sans-serif" font-size="12"'
    background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} {style}>\n' + "\n".join([background, *parts]) + "\n</svg>\n"


def _smoothed(values: Sequence[float]) -> list[float]:
    """Returns the running median of five values."""
    return [sorted(values[max(0, i - 2) : i + 3])[len(values[max(0, i - 2) : i + 3]) // 2] for i in range(len(values))]


def _text(x: float, y: float, text: str, anchor: str = "middle", color: str = "#333") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{color}">{text}</text>'
