"""Curves as inline SVG; pure. Colours are CSS variables of the page, so that one drawing serves light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

WIDTH, WIDE, HEIGHT = 360, 800, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 22
_POINTS = 240  # more than this many steps are averaged


@dataclass(frozen=True)
class Series:
    """One named curve: (step, value), values finite."""

    name: str
    points: Sequence[tuple[float, float]]


def ticks(low: float, high: float, number: int = 4) -> list[float]:
    """Round numbers that span [low, high], about `number` of them."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return []
    if high - low <= 1e-12 * max(1.0, abs(low), abs(high)):
        pad = abs(low) * 0.1 if abs(low) > 1e-9 else 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / max(1, number - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def thinned(points: Sequence[tuple[float, float]], number: int = _POINTS) -> list[tuple[float, float]]:
    """At most `number` points, each the mean of its neighbours."""
    if len(points) <= number:
        return list(points)
    cuts = [round(i * len(points) / number) for i in range(number + 1)]
    parts = [points[a:b] for a, b in pairwise(cuts)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]


def label(value: float) -> str:
    """A short number for an axis."""
    if value and (abs(value) >= 10_000 or abs(value) < 0.001):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


class _Frame:
    """Axes: where a step and a value lie on the drawing."""

    def __init__(self, xs: tuple[float, float], ys: list[float], width: int = WIDTH, height: int = HEIGHT) -> None:
        self.x_low, self.x_high = xs if xs[1] > xs[0] else (xs[0] - 0.5, xs[0] + 0.5)
        self.ys = ys
        self.width, self.height = width, height

    def x(self, step: float) -> float:
        return round(LEFT + (step - self.x_low) / (self.x_high - self.x_low) * (self.width - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.ys[0], self.ys[-1]
        return round(self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM), 1)

    def draw(self) -> list[str]:
        parts = []
        for value in self.ys:
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{self.width - RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5}" text-anchor="end">{label(value)}</text>')
        marks = [
            t
            for t in ticks(self.x_low, self.x_high, self.width // 60)
            if self.x_low <= t <= self.x_high and abs(t - round(t)) < 1e-9
        ]
        for step in marks:
            parts.append(
                f'<text class="tick" x="{self.x(step)}" y="{self.height - 6}" text-anchor="middle">{step:.0f}</text>'
            )
        return parts


def line_chart(series: Series, title: str, colour: str, zero: bool = False) -> Markup:
    """One curve over learner steps; `zero` keeps 0 in sight. `colour` is the name of a CSS variable."""
    points = thinned(series.points)
    if not points:
        return Markup('<p class="none">no values</p>')
    values = [v for _, v in points] + ([0.0] if zero else [])
    frame = _Frame((points[0][0], points[-1][0]), ticks(min(values), max(values)))
    path = " ".join(f"{frame.x(s)},{frame.y(v)}" for s, v in points)
    parts = frame.draw()
    base = frame.y(max(frame.ys[0], min(0.0, frame.ys[-1])))
    parts.append(
        f'<polygon class="area" style="fill:var(--{colour})" points="{frame.x(points[0][0])},{base} {path} {frame.x(points[-1][0])},{base}"/>'
    )
    parts.append(f'<polyline class="line" style="stroke:var(--{colour})" points="{path}"/>')
    if len(points) <= 60:
        parts += [
            f'<circle class="dot" style="fill:var(--{colour})" cx="{frame.x(s)}" cy="{frame.y(v)}" r="2.2">'
            f"<title>step {s:.0f}: {v:.4g}</title></circle>"
            for s, v in points
        ]
    return _svg(parts, title, frame)


def stacked_chart(steps: Sequence[float], layers: Sequence[tuple[str, str, Sequence[float]]], title: str) -> Markup:
    """Shares that add up to at most 1 over learner steps; a layer is (name, colour variable, share a step), the lowest
    first.
    """
    if not steps:
        return Markup('<p class="none">no values</p>')
    frame = _Frame((steps[0], steps[-1]), [0.0, 0.25, 0.5, 0.75, 1.0], WIDE, HEIGHT + 40)
    parts = frame.draw()
    bottom = [0.0] * len(steps)
    xs = list(steps)
    for name, colour, shares in layers:
        top = [min(1.0, b + max(0.0, s)) for b, s in zip(bottom, shares, strict=True)]
        if len(xs) == 1:  # one step: draw it as wide as the frame
            upper = [(frame.x_low, top[0]), (frame.x_high, top[0])]
            lower = [(frame.x_high, bottom[0]), (frame.x_low, bottom[0])]
        else:
            upper = list(zip(xs, top, strict=True))
            lower = list(zip(reversed(xs), reversed(bottom), strict=True))
        shape = " ".join(f"{frame.x(s)},{frame.y(v)}" for s, v in [*upper, *lower])
        parts.append(
            f'<polygon class="layer" style="fill:var(--{colour})" points="{shape}"><title>{escape(name)}</title></polygon>'
        )
        bottom = top
    return _svg(parts, title, frame)


def _svg(parts: list[str], title: str, frame: _Frame) -> Markup:
    body = "".join(parts)
    return Markup(
        f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(title)}">{body}</svg>'
    )
