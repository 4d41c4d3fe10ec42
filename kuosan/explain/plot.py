"""The picture of the theory: densities over time, one above the other, and what they come to.

Each map has time across and place upwards; its colour is the density's square root, so that tails are seen. The
first column runs from data to noise, the others from noise to data, as one reads. Colours keep apart in grey and
under colour blindness (a map of one rising lightness; blue and vermilion of Okabe & Ito 2008).
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from kuosan.evaluation.report_words import number
from kuosan.explain.theory import Course, Theory

INK, MUTED, FIRST, SECOND = "#1f2021", "#6b6c6d", "#0072b2", "#d55e00"
MAP = "magma"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
SHOWN = 2.6  # of the line, either side of nought
LINES = 7  # paths drawn over each map
MOMENTS = (0.0, 0.45, 0.63, 0.77, 0.89, 1.0)  # parts of the way, of the two-dimensional panel
TRAIL = 3  # steps behind each state there


def draw(result: Theory) -> bytes:
    """The picture as a PNG file's bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure: Any = Figure(figsize=(12.4, 13.0), facecolor="white")
        FigureCanvasAgg(figure)
        rows = figure.add_gridspec(
            3, 1, height_ratios=(6.6, 2.2, 2.35), left=0.07, right=0.985, top=0.965, bottom=0.02, hspace=0.22
        )
        columns = _columns(result)
        _maps(figure, rows[0], columns, result.study.batches)
        charts = rows[1].subgridspec(1, 3, wspace=0.16)
        _ends(figure.add_subplot(charts[0]), columns[-1][1])
        _distances(figure.add_subplot(charts[1]), result)
        _residuals(figure.add_subplot(charts[2]), result)
        _strip(figure, rows[2], result.sheet)
        file = io.BytesIO()
        figure.savefig(file, dpi=110, metadata={"Software": None})
    return file.getvalue()


def _courses(result: Theory) -> dict[tuple[str, float | None], Course]:
    return {(c.denoiser, c.eta): c for c in result.courses}


def _columns(result: Theory) -> list[tuple[str, Course]]:
    by = _courses(result)
    return [
        ("Corruption: data → noise", by["none", None]),
        ("Generation, exact denoiser, η = 1 (SDE)", by["exact", 1.0]),
        ("Generation, trained network, η = 0 (flow)", by["network", 0.0]),
    ]


def _maps(figure: Any, where: Any, columns: list[tuple[str, Course]], batches: int) -> None:
    from matplotlib.colors import PowerNorm

    grid = where.subgridspec(3, len(columns), wspace=0.04, hspace=0.05)
    norm = PowerNorm(0.5, 0, float(columns[0][1].exact.max()))
    for j, (title, course) in enumerate(columns):
        times = course.times.numpy()
        across = np.concatenate([times[:1], (times[1:] + times[:-1]) / 2, times[-1:]])
        rows = (
            ("exact density", course.box, course.exact),
            ("Fokker–Planck equation", course.box, course.equation),
            (f"{batches * course.samples_exact[0].n:,} samples", course.bins, course.samples),
        )
        for i, (label, box, values) in enumerate(rows):
            axes = figure.add_subplot(grid[i, j])
            axes.pcolormesh(across, box.edges.numpy(), values.numpy().T, norm=norm, cmap=MAP, rasterized=True)
            axes.set(xlim=(times[0], times[-1]), ylim=(-SHOWN, SHOWN), xticks=[0.01, 0.25, 0.5, 0.75, 0.99])
            if i == 2:
                ends = axes.set_xticklabels(["0", "¼", "½", "¾", "1"])[:: 4 if j == 0 else -4]
                ends[0].set_ha("left")
                ends[1].set_ha("right")
            else:
                axes.set_xticklabels([])
            axes.set_yticks([-2, -1, 0, 1, 2] if j == 0 else [])
            axes.tick_params(length=2.5 if i == 2 else 0, axis="x")
            axes.spines[:].set_visible(False)
            if i == 0:
                axes.set_title(title, pad=7)
            if i == 2:
                axes.plot(times, _spread_out(course), color="white", lw=0.9, alpha=0.85)
                axes.set_xlabel("time t" if j == 0 else "time t, running backwards", labelpad=1)
            if j == 0:
                axes.set_ylabel(label, color=INK, fontsize=10.5, fontweight="bold", labelpad=4)


def _spread_out(course: Course) -> Any:
    """A few paths, even in the order in which they lie at the data's end."""
    end = 0 if course.times[0] < course.times[-1] else -1
    order = course.paths[end, :, 0].argsort()
    chosen = order[((np.arange(LINES) + 0.5) / LINES * len(order)).astype(int)]
    return course.paths[:, chosen, 0].numpy()


def _ends(axes: Any, course: Course) -> None:
    x, exact = course.box.centres()[:, 0].numpy(), course.exact[-1].numpy()
    axes.fill_between(x, exact, color="#d9dadb", lw=0, label="exact density of the data")
    edges, counted = course.bins.edges.numpy(), course.samples[-1].numpy()
    axes.stairs(counted, edges, color=MUTED, lw=0.9, label="samples of the network, η = 0")
    solved = course.equation[-1].numpy()
    axes.plot(x, solved, color=SECOND, lw=1.6, label="what its equation foretells")
    top = 1.5 * max(float(exact.max()), float(solved.max()))
    axes.set(xlim=(-2.2, 2.4), ylim=(0, top), title="Where generation ends", xlabel="x", yticks=[])
    axes.spines["left"].set_visible(False)
    axes.legend(loc="upper left", borderaxespad=0)


def _distances(axes: Any, result: Theory) -> None:
    by = _courses(result)
    for key, colour, label in (
        (("network", 0.0), SECOND, "network, η = 0"),
        (("network", 1.0), FIRST, "network, η = 1"),
        (("exact", 1.0), INK, "exact denoiser, η = 1: the grid's error"),
    ):
        course = by[key]
        axes.plot(course.times.numpy(), course.equation_exact, color=colour, lw=1.6, label=label)
    axes.set(xlim=(0.99, 0.01), ylim=(1e-4, 3), yscale="log", title="Equation against exact density")
    axes.set(xlabel="time t, running backwards", ylabel="∫ |p − q|")
    axes.legend(loc="upper left", borderaxespad=0)


def _residuals(axes: Any, result: Theory) -> None:
    shown = [r for r in result.residual if r.root]
    axes.errorbar(
        [r.log_snr for r in shown],
        [r.root for r in shown],
        yerr=[r.stderr / (2 * r.root) for r in shown],
        color=SECOND, marker="o", ms=4, lw=1.6, capsize=2,
    )  # fmt: skip
    most = max(r.root for r in result.exact_residual)
    note = f"network, n = {result.residual[0].n:,}\n(exact denoiser: at most {number(most)})"
    axes.text(0.03, 0.97, note, transform=axes.transAxes, va="top", fontsize=8.5)
    top = 1.6 * max((r.root for r in shown), default=1.0)
    axes.set(ylim=(0, top), title="Residual of the score, √E[R]", xlabel="log-SNR (noise ← → data)")


def _strip(figure: Any, where: Any, course: Course) -> None:
    """The plane at a few moments: the equation's density, and states on their way."""
    from matplotlib.colors import PowerNorm

    grid = where.subgridspec(1, len(MOMENTS), wspace=0.04)
    low, high = course.box.low, course.box.high
    for j, part in enumerate(MOMENTS):
        i = round(part * (len(course.times) - 1))
        axes = figure.add_subplot(grid[j])
        q, places = course.equation[i], course.paths[max(0, i - TRAIL) : i + 1]
        axes.imshow(
            q.T.numpy(), origin="lower", extent=(low, high, low, high), cmap=MAP,
            norm=PowerNorm(0.6, 0, float(q.max())), interpolation="bicubic",
        )  # fmt: skip
        axes.plot(*places.permute(2, 0, 1).numpy(), color="white", lw=0.5, alpha=0.35)
        axes.scatter(*places[-1].T.numpy(), s=3.5, color="white", lw=0)
        axes.set(xticks=[], yticks=[], xlim=(low, high), ylim=(low, high))
        axes.spines[:].set_visible(False)
        axes.set_title(f"t = {float(course.times[i]):.2f}", fontweight="normal", pad=4)
        if j == 0:
            axes.set_ylabel("in the plane, η = 1", color=INK, fontsize=10.5, fontweight="bold", labelpad=8)
