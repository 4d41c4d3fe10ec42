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

from kuosan.evaluation.nearness import Nearness
from kuosan.evaluation.report_words import count, duration, number, usable

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


def loss_chart(log: Sequence[Mapping[str, Any]]) -> str | None:
    """Training loss (faint: rows, strong: running mean) and held-out loss over steps; None without rows."""
    training = _series(log, "step", "loss")
    validation = _series(log, "step", "val_loss")
    errors = {row.get("step"): row.get("val_stderr") for row in log if usable(row.get("val_stderr"))}
    if len(training) < 2 and len(validation) < 2:
        return None

    def paint(axes: Any) -> None:
        if len(training) >= 2:
            steps, smooth = _running_mean(training, max(1, len(training) // 40))
            axes.plot(*zip(*training, strict=True), color=FIRST, alpha=0.25, lw=0.9)
            axes.plot(steps, smooth, color=FIRST, lw=2)
        if validation:
            axes.plot(*zip(*validation, strict=True), color=SECOND, lw=1.6, marker="o", ms=4)
            bars = [(s, v, errors[s]) for s, v in validation if s in errors]
            if bars:
                x, y, e = zip(*bars, strict=True)
                axes.errorbar(x, y, e, fmt="none", ecolor=SECOND, elinewidth=1, capsize=2)
        _log_scale_if_wide(axes, [y for _, y in [*training, *validation]])
        axes.set_xlabel("training step")
        axes.set_ylabel("loss")
        _plain_ticks(axes)
        _end_labels(axes, [("training", training, FIRST), ("held out", validation, SECOND)])

    return draw("loss", "Training and validation loss over training steps", paint)


def codec_chart(log: Sequence[Mapping[str, Any]]) -> str | None:
    """Peak signal to noise of a codec's training crops (faint: rows, strong: running mean); None without rows."""
    rows = _series(log, "step", "psnr")
    if len(rows) < 2:
        return None

    def paint(axes: Any) -> None:
        axes.plot(*zip(*rows, strict=True), color=FIRST, alpha=0.25, lw=0.9)
        axes.plot(*_running_mean(rows, max(1, len(rows) // 20)), color=FIRST, lw=2)
        axes.set_xlabel("training step of the codec")
        axes.set_ylabel("PSNR of round trips (dB)")
        _plain_ticks(axes)

    return draw("codec", "Peak signal to noise of the codec's round trips over its training", paint)


def level_chart(log: Sequence[Mapping[str, Any]]) -> str | None:
    """Validation loss by noise level, a line per evaluation (older ones fainter); None without such rows."""
    rows: list[tuple[float, list[tuple[float, float]]]] = []
    for row in log:
        points = sorted(set(_finite(row.get("val_by_level") or ())))  # a student has few levels
        if len(points) >= 2:
            rows.append((float(row.get("step", 0)), points))
    if not rows:
        return None
    rows = evenly(rows, 8)
    axis = next((row["val_axis"] for row in log if row.get("val_axis")), "log-SNR")
    noise = axis == "log-SNR"

    def paint(axes: Any) -> None:
        for i, (_, points) in enumerate(rows):
            last = i == len(rows) - 1
            faded = 0.2 + 0.5 * i / max(1, len(rows) - 1)
            axes.plot(
                *zip(*points, strict=True), color=FIRST, alpha=1 if last else faded, lw=2.2 if last else 1.1
            )
            if last:
                axes.plot(*zip(*points, strict=True), color=FIRST, ls="none", marker="o", ms=4)
        _log_scale_if_wide(axes, [y for _, points in rows for _, y in points])
        _plain_ticks(axes)
        axes.set_xlabel("← noisier · log signal-to-noise ratio · cleaner →" if noise else axis)
        axes.set_ylabel("held-out loss")
        names = [(f"step {count(rows[-1][0])}", rows[-1][1], FIRST)]
        if len(rows) > 1:
            names.append((f"step {count(rows[0][0])}", rows[0][1], MUTED))
        _end_labels(axes, names)

    return draw("levels", "Validation loss by noise level", paint)


def nearness_chart(log: Sequence[Mapping[str, Any]]) -> str | None:
    """How near samples lie to training items over steps, beside what is usual for real items (a band of two standard
    errors); None without such rows."""
    rows = [row for row in log if row.get("nearness") is not None and row.get("nearness_real") is not None]
    points = _series(rows, "step", "nearness")
    if not points:
        return None
    real, spread = rows[-1]["nearness_real"], 2 * (rows[-1].get("nearness_real_stderr") or 0)

    def paint(axes: Any) -> None:
        axes.axhspan(real - spread, real + spread, color=SECOND, alpha=0.2, lw=0)
        axes.axhline(real, color=SECOND, lw=1.2)
        errors = [2 * (row.get("nearness_stderr") or 0) for row in sorted(rows, key=lambda row: row["step"])]
        axes.errorbar(*zip(*points, strict=True), errors, color=FIRST, lw=1.6, marker="o", ms=4, capsize=2)
        _plain_ticks(axes)
        axes.set_xlabel("training step")
        axes.set_ylabel("relative distance; lower is nearer")
        _end_labels(axes, [("samples", points, FIRST), ("real", [(points[-1][0], real)], SECOND)])

    return draw("nearness", "Distance of samples to training items over training steps", paint)


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
        kept = _finite(points)
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
        _end_labels(axes, [(s, p, c) for (s, p), c in zip(lines, _colours(), strict=False) if s])

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


def training_summary(log: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(what, value) of the last rows: steps, time, rate, losses."""
    rows = [row for row in log if row.get("step") is not None]
    if not rows:
        return []
    last = max(rows, key=lambda row: row["step"])
    facts = [("Steps", count(last["step"]))]
    seconds = max((float(row["seconds"]) for row in rows if row.get("seconds") is not None), default=0.0)
    if seconds > 0:
        facts += [("Time", duration(seconds)), ("Rate", f"{last['step'] / seconds:,.1f} steps/s")]
    losses = _series(log, "step", "loss")
    if losses:
        tail = [y for _, y in losses[-max(1, len(losses) // 10) :]]
        mean = sum(tail) / len(tail)
        facts.append(("Training loss, last tenth", f"{number(mean)} (n = {count(len(tail))} log rows)"))
    held_out = [row for row in log if row.get("val_loss") is not None and math.isfinite(row["val_loss"])]
    if held_out:
        best = min(held_out, key=lambda row: row["val_loss"])
        facts.append(("Held-out loss, best", f"{_with_error(best)} at step {count(best['step'])}"))
        facts.append(("Held-out loss, last", _with_error(held_out[-1])))
    if row := next((row for row in reversed(rows) if row.get("nearness") is not None), None):
        facts.append(("Nearness to training", _nearness(row)))
    return facts


def _nearness(row: Mapping[str, Any]) -> str:
    """The last look at how near samples lie to training items, and what it means."""
    found = Nearness.of(row)
    value, real = number(found.value, found.stderr), number(found.real, found.real_stderr)
    verdict = (
        "nearer than real items: it knows some by heart" if found.nearer else "no nearer than real items"
    )
    text = f"{value} ± {number(found.stderr, found.stderr)} (n = {count(found.n)}), real items {real}"
    return f"{text} ± {number(found.real_stderr, found.real_stderr)} (n = {count(found.real_n)}): {verdict}"


def _with_error(row: Mapping[str, Any]) -> str:
    stderr = row.get("val_stderr")
    text = number(row["val_loss"], stderr) + (f" ± {number(stderr, stderr)}" if usable(stderr) else "")
    return text + (f" (n = {count(row['val_n'])})" if row.get("val_n") else "")


def _series(log: Sequence[Mapping[str, Any]], x: str, y: str) -> list[tuple[float, float]]:
    return sorted(
        _finite((row[x], row[y]) for row in log if row.get(x) is not None and row.get(y) is not None)
    )


def _finite(points: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _running_mean(points: Points, half: int) -> tuple[list[float], list[float]]:
    steps, smooth = [], []
    for i, (step, _) in enumerate(points):
        window = [y for _, y in points[max(0, i - half) : i + half + 1]]
        steps.append(step)
        smooth.append(sum(window) / len(window))
    return steps, smooth


def _log_scale_if_wide(axes: Any, values: Sequence[float]) -> None:
    if values and min(values) > 0 and max(values) / min(values) > 8:
        axes.set_yscale("log")


def _plain_ticks(axes: Any) -> None:
    """0.03, not 3×10⁻²: mathematics is not parsed here, and people read decimals."""
    from matplotlib.ticker import FuncFormatter

    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}".replace("-", "−")))
    if axes.get_yscale() == "log":
        plain_ticks(axes.yaxis)


def plain_ticks(axis: Any) -> None:
    """Decimals along a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.6g}"))


def _end_labels(axes: Any, lines: Sequence[tuple[str, Points, str]]) -> None:
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
