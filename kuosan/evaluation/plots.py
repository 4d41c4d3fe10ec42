"""Charts of a report as inline SVG that takes its colours from the page.

matplotlib draws; its colours are then replaced by the page's CSS variables, so that a chart is as readable on
a dark page as on a light one, and its text stays text in the reader's own font. Nothing of pyplot's global
state is touched, and identifiers are salted by the chart's name: the same facts give the same bytes, and two
charts on one page never share an identifier. The two data colours are blue and vermilion of Okabe & Ito
(2008), told apart under all common kinds of colour blindness; a second mark (dots, thickness) repeats them.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kuosan.evaluation.report_words import number

Points = Sequence[tuple[float, float]]

INK, MUTED, LINE, FIRST, SECOND = "#1f2021", "#7c7d7e", "#d0d1d2", "#0072b2", "#d55e00"
CSS = {INK: "--ink", MUTED: "--muted", LINE: "--line", FIRST: "--c1", SECOND: "--c2"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # a user's `$` is a dollar sign
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.solid_capstyle": "round",
}


def draw(
    name: str, description: str, paint: Callable[[Any], None], width: float = 5.3, height: float = 3.0
) -> str:
    """Call `paint(axes)` on fresh axes and return the figure as `<svg>` markup without outer references."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        paint(figure.add_subplot())
        svg = _printed(canvas, name)
    return _for_the_page(svg, name, description)


def _printed(canvas: Any, name: str) -> str:
    """What `savefig` does, but for a first drawing that is thrown away: half of the time of a report."""
    buffer = io.StringIO()
    canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _for_the_page(svg: str, name: str, description: str) -> str:
    size = re.search(r'viewBox="([^"]+)"', svg)
    body = svg[svg.index("<svg") :]
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', body)
    for colour, variable in CSS.items():
        body = body.replace(colour, f"var({variable})")
    box = size.group(1) if size else "0 0 100 100"
    return (
        f'<svg class="chart" viewBox="{box}" role="img" aria-label="{_attribute(description)}">{body}</svg>'
    )


# name of a control sequence → (panel it belongs to, title); those without a row get a panel of their own.
PANELS = {
    "alpha": ("Signal α and noise σ", "α"),
    "sigma": ("Signal α and noise σ", "σ"),
    "log_snr": ("Log signal-to-noise ratio", ""),
    "density": ("Where training looks", ""),
    "training_density": ("Where training looks", ""),
    "weight": ("Loss weight", ""),
    "loss_weight": ("Loss weight", ""),
    "guidance": ("Guidance weight", ""),
    "grid": ("Where the sampler steps", ""),
}


def schedule_charts(curves: Mapping[str, Points]) -> list[tuple[str, str]]:
    """(title, svg) per panel: the control sequences over t; a name that starts with "grid" as its points."""
    panels: dict[str, list[tuple[str, Points]]] = {}
    for name, points in curves.items():
        kept = finite(points)
        if kept:
            key = "grid" if name.startswith("grid") else name
            title, short = PANELS.get(key, (name.replace("_", " ").capitalize(), ""))
            panels.setdefault(title, []).append((short, kept))
    return [(title, _panel(f"curve{i}", title, lines)) for i, (title, lines) in enumerate(panels.items())]


def _panel(identifier: str, title: str, lines: list[tuple[str, Points]]) -> str:
    def paint(axes: Any) -> None:
        for (_, points), colour in zip(lines, _colours(), strict=False):
            x, y = zip(*points, strict=True)
            if title == PANELS["grid"][0]:
                axes.vlines(x, 0, y, color=colour, lw=1, alpha=0.45)
                axes.plot(x, y, color=colour, ls="none", marker="o", ms=4.5)
            else:
                axes.plot(x, y, color=colour, lw=2)
        if min(y for _, points in lines for _, y in points) >= 0:
            axes.set_ylim(bottom=0)  # so that a constant looks constant
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("t   (0 data, 1 noise)")
        end_labels(axes, [(s, p, c) for (s, p), c in zip(lines, _colours(), strict=False) if s])

    return draw(identifier, title, paint, width=3.6, height=2.5)


def _colours() -> Iterable[str]:
    yield from (FIRST, SECOND, MUTED, INK)


def floor_drawing(metric: Mapping[str, Any]) -> str | None:
    """The floor as a band, the value as a dot, ±2 standard errors each, on one line; None without a floor."""
    value, floor = metric.get("value"), metric.get("floor")
    if value is None or floor is None or not (math.isfinite(value) and math.isfinite(floor)):
        return None
    spread, floor_spread = 2 * float(metric.get("stderr") or 0), 2 * float(metric.get("floor_stderr") or 0)
    low = min(0.0, value - spread, floor - floor_spread)
    high = max(value + spread, floor + floor_spread)
    if metric.get("better") == "higher" and 0 <= low and high <= 1:
        high = 1.0
    width = (high - low) or 1.0

    def at(x: float) -> float:
        return 8 + 224 * (x - low) / width

    band = max(at(floor + floor_spread) - at(floor - floor_spread), 2.0)
    middle = at(floor)
    said = f"value {number(value)}, floor {number(floor)}"
    whisker = (
        f'<path class="whisker" d="M{at(value - spread):.1f} 15H{at(value + spread):.1f}"/>' if spread else ""
    )
    return (
        f'<svg class="floor" viewBox="0 0 240 30" role="img" aria-label="{said}">'
        '<path class="axis" d="M8 15H232"/>'
        f'<rect class="band" x="{middle - band / 2:.1f}" y="5" width="{band:.1f}" height="20" rx="2"/>'
        f'<path class="real" d="M{middle:.1f} 4V26"/>{whisker}'
        f'<circle class="dot" cx="{at(value):.1f}" cy="15" r="5.5"/></svg>'
    )


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the items, evenly spread, always with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def finite(points: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
    """The points without those that are not numbers."""
    return [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def plain_ticks(axis: Any) -> None:
    """Decimals along a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.6g}"))


def end_labels(axes: Any, lines: Sequence[tuple[str, Points, str]]) -> None:
    """Names at the ends of the lines instead of a legend, kept a line of text apart."""
    ends = [
        (axes.transData.transform(points[-1]), name, points[-1], colour)
        for name, points, colour in lines
        if points
    ]
    lowest = -math.inf
    for place, name, end, colour in sorted(ends, key=lambda item: float(item[0][1])):
        height = max(float(place[1]), lowest + 14)
        lowest = height
        axes.annotate(
            name, end, xytext=(7, (height - float(place[1])) * 0.72), textcoords="offset points",
            color=colour, va="center", annotation_clip=False,
        )  # fmt: skip


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
