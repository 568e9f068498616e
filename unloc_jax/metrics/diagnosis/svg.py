"""Plots as SVG text: 420 units wide, styled by the page (`assets/diagnosis.html`)."""

import html
import math
from collections.abc import Sequence

from unloc_jax.metrics.diagnosis.section import Bars, Lines, StackedBars

WIDTH = 420
_CHARACTER = 7.3  # average width of a character
_ROW = 26
_BAR = 15
_MOST_LABEL = 160
_GAP = 6  # between a bar or line and a number


def kind_class(name: str) -> str:
    """Returns the CSS class of an error type or outcome, which sets its colour."""
    return "kind-" + "".join(c if c.isalnum() else "-" for c in name)


def bars(figure: Bars) -> str:
    """Draws horizontal bars, with value and count beside each."""
    left = _label_width(figure.labels)
    right = WIDTH - 116
    top = max([*figure.values, figure.base or 0, 0.0]) or 1.0
    scale = (right - left) / top
    height = _ROW * len(figure.labels) + 4
    parts = []
    base = -math.inf
    if figure.base is not None:
        base = left + figure.base * scale
        parts.append(f'<line class="base" x1="{base:.1f}" x2="{base:.1f}" y1="0" y2="{height}"/>')
    for i, (label, value, count) in enumerate(zip(figure.labels, figure.values, figure.counts)):
        y = _ROW * i + 4
        value = 0.0 if math.isnan(value) else value
        end = left + max(value, 0) * scale
        number = f"{value:.1f}"
        # Behind the line if it would cross the number.
        crossed = end < base + _GAP and base - _GAP < end + _GAP + _CHARACTER * len(number)
        at = (base if crossed else end) + _GAP
        parts.append(
            f"{_text(left - 8, y + 12, _cut(label), 'end')}"
            f'<rect class="bar {kind_class(label)}" x="{left}" y="{y}" width="{max(value, 0) * scale:.1f}"'
            f' height="{_BAR}"><title>{html.escape(label)}: {value:.1f} (n = {count})</title></rect>'
            f"{_text(at, y + 12, number, 'start')}"
            f"{_text(WIDTH - 2, y + 12, f'n = {count}', 'end', 'quiet')}"
        )
    return _svg(height, figure.title, parts)


def stacked_bars(figure: StackedBars) -> str:
    """Draws horizontal bars of 100 %, with numbers where they fit."""
    left = _label_width(figure.labels) if len(figure.labels) > 1 else 0
    width = WIDTH - left
    parts = []
    for i, (label, shares) in enumerate(zip(figure.labels, figure.shares)):
        y, x = _ROW * i + 2, float(left)
        if left:
            parts.append(_text(left - 8, y + 15, _cut(label), "end"))
        for name, share in zip(figure.parts, shares):
            w = share / 100 * width
            parts.append(
                f'<rect class="{kind_class(name)}" x="{x:.1f}" y="{y}" width="{w:.1f}" height="{_ROW - 4}">'
                f"<title>{html.escape(label)}: {html.escape(name)} {share:.1f} %</title></rect>"
            )
            if w > 22:
                parts.append(_text(x + w / 2, y + 15, f"{share:.0f}", "middle", "on-bar"))
            x += w
    return _svg(_ROW * len(figure.labels) + 2, figure.title, parts)


def lines(figure: Lines) -> str:
    """Draws curves on a grid."""
    left, right, top, bottom, height = 38, WIDTH - 18, 10, 214, 250
    (x0, x1), (y0, y1) = figure.x_range, figure.y_range
    x_of = lambda x: left + (x - x0) / (x1 - x0) * (right - left)
    y_of = lambda y: bottom - (y - y0) / (y1 - y0) * (bottom - top)
    parts = []
    for i in range(6):
        y = y0 + (y1 - y0) * i / 5
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y_of(y):.1f}" y2="{y_of(y):.1f}"/>'
            f"{_text(left - 6, y_of(y) + 4, f'{y:g}', 'end', 'quiet')}"
        )
    for x in _ticks(x0, x1):
        parts.append(
            f'<line class="grid" x1="{x_of(x):.1f}" x2="{x_of(x):.1f}" y1="{top}" y2="{bottom}"/>'
            f"{_text(x_of(x), bottom + 16, f'{x:g}', 'middle', 'quiet')}"
        )
    parts.append(_text((left + right) / 2, height - 3, figure.x_label, "middle", "quiet"))
    if figure.diagonal:
        parts.append(
            f'<line class="diagonal" x1="{x_of(x0):.1f}" y1="{y_of(y0):.1f}" x2="{x_of(x1):.1f}" y2="{y_of(y1):.1f}"/>'
        )
    for number, (name, (xs, ys)) in enumerate(figure.curves.items()):
        points = [(x, y) for x, y in zip(xs, ys) if not (math.isnan(x) or math.isnan(y))]
        path = "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in points)
        if path:
            parts.append(f'<path class="curve curve-{number}" d="M{path}"/>')
        parts += [
            f'<circle class="curve-{number}" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3"><title>{html.escape(name)},'
            f" {x:.3g}: {y:.1f}</title></circle>"
            for x, y in points
        ]
    return _svg(height, f"{figure.title}; {figure.y_label} over {figure.x_label}", parts)


def _ticks(low: float, high: float) -> list[float]:
    step = (high - low) / 5
    nice = next(n for n in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if n >= step * 0.75)
    return [
        round(i * nice, 6) for i in range(math.ceil(low / nice - 1e-9), math.floor(high / nice + 1e-9) + 1)
    ]


def _label_width(labels: Sequence[str]) -> int:
    return min(_MOST_LABEL, round(_CHARACTER * max(map(len, labels), default=0))) + 10


def _cut(label: str) -> str:
    most = int(_MOST_LABEL / _CHARACTER)
    return label if len(label) <= most else label[: most - 1] + "…"


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    css = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{html.escape(text)}</text>'


def _svg(height: float, title: str, parts: list[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
