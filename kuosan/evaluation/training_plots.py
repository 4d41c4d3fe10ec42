"""How a training went, as charts and facts: from the rows of its metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kuosan.evaluation.nearness import Nearness
from kuosan.evaluation.plots import (
    FIRST,
    MUTED,
    SECOND,
    Points,
    draw,
    end_labels,
    evenly,
    finite,
    plain_ticks,
)
from kuosan.evaluation.report_words import count, duration, number, usable


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
        end_labels(axes, [("training", training, FIRST), ("held out", validation, SECOND)])

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
        points = sorted(set(finite(row.get("val_by_level") or ())))  # a student has few levels
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
        end_labels(axes, names)

    return draw("levels", "Validation loss by noise level", paint)


def nearness_chart(log: Sequence[Mapping[str, Any]]) -> str | None:
    """How near samples lie to training items over steps, beside real ones; None without such rows."""
    names = ("nearness", "nearness_stderr", "nearness_real", "nearness_real_stderr")
    said = "Distance of samples to training items over training steps"
    return _beside_real(log, "nearness", said, names, "relative distance; lower is nearer")


def distance_chart(log: Sequence[Mapping[str, Any]]) -> str | None:
    """How far samples are from real items over steps, beside their floor; None without such rows."""
    names = ("sample_fd", "sample_fd_stderr", "sample_fd_floor", "sample_fd_floor_stderr")
    said = "Fréchet distance of samples to real items over training steps"
    return _beside_real(log, "distance", said, names, "Fréchet distance")


def _beside_real(
    log: Sequence[Mapping[str, Any]], name: str, said: str, names: tuple[str, ...], axis: str
) -> str | None:
    """Values with bars of two standard errors over steps, beside a band of two around what real items have; ``names``
    are those of the value, the real one, and of the error of each."""
    value, stderr, real, real_stderr = names
    rows = [row for row in log if row.get(value) is not None and row.get(real) is not None]
    rows = sorted(rows, key=lambda row: row["step"])
    points, beside = _series(rows, "step", value), _series(rows, "step", real)
    if not points or not beside:
        return None

    def paint(axes: Any) -> None:
        steps, floor = zip(*beside, strict=True)
        spread = [2 * (row.get(real_stderr) or 0) for row in rows]
        low, high = ([f + k * s for f, s in zip(floor, spread, strict=True)] for k in (-1, 1))
        if len(steps) > 1:
            axes.fill_between(steps, low, high, color=SECOND, alpha=0.2, lw=0)
        else:
            axes.axhspan(low[0], high[0], color=SECOND, alpha=0.2, lw=0)
        axes.plot(steps, floor, color=SECOND, lw=1.2)
        errors = [2 * (row.get(stderr) or 0) for row in rows]
        axes.errorbar(*zip(*points, strict=True), errors, color=FIRST, lw=1.6, marker="o", ms=4, capsize=2)
        _log_scale_if_wide(axes, [y for _, y in points])
        _plain_ticks(axes)
        axes.set_xlabel("training step")
        axes.set_ylabel(axis)
        end_labels(axes, [("samples", points, FIRST), ("real", beside, SECOND)])

    return draw(name, said, paint)


def change_chart(log: Sequence[Mapping[str, Any]]) -> str | None:
    """The change of the held-out loss since its least before, in the later half of training, with bars of two standard
    errors of the pairs; None with fewer than two of them."""
    points = _series(log, "step", "val_change")
    points = points[len(points) // 2 :]
    if len(points) < 2:
        return None
    errors = {row.get("step"): 2 * (row.get("val_change_stderr") or 0) for row in log}

    def paint(axes: Any) -> None:
        axes.axhline(0, color=SECOND, lw=1.2)
        bars = [errors[step] for step, _ in points]
        axes.errorbar(*zip(*points, strict=True), bars, color=FIRST, lw=1.6, marker="o", ms=4, capsize=2)
        _plain_ticks(axes)
        axes.set_xlabel("training step")
        axes.set_ylabel("change of the held-out loss")

    return draw("change", "Change of the held-out loss since its least before", paint)


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
        finite((row[x], row[y]) for row in log if row.get(x) is not None and row.get(y) is not None)
    )


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

    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: (f"{x:,.0f}" if x == round(x) else f"{x:g}").replace("-", "−"))
    )
    if axes.get_yscale() == "log":
        plain_ticks(axes.yaxis)
