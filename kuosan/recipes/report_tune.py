"""The report's section of learned control sequences: how close they come, and where they call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kuosan.adapt.tune import Tuned
from kuosan.evaluation.plots import FIRST, MUTED, SECOND, draw, plain_ticks
from kuosan.evaluation.report_section import Section


def section(found: Sequence[Tuned], w: float) -> Section:
    """Of one `kuosan tune`."""
    lead = [
        "A sampler of few calls does not reach the end of the model's own flow. What is shown is the mean distance "
        f"from it, per number, on {found[0].n:,} noises that nothing was fitted to"
        + (f", under guidance {w:g}" if w != 1 else "")
        + "; real quality is measured elsewhere on this page.",
        *(sentence(t) for t in found),
    ]
    figures = [
        ("Distance from the flow by number of calls, ± one standard error; lower is better.", _errors(found)),
        ("Noise over signal at each call: what was learned, and the best stock grid.", _levels(found)),
    ]
    if any(t.best.candidate.controls.w is not None for t in found):
        figures.append(("The guidance weight at each call.", _weights(found)))
    return Section("sequences", "Few steps", "What few steps come to", lead, figures)


SHARED = "one call more, of noise alone, is shared by all samples of the same conditions"


def sentence(t: Tuned) -> str:
    """One number of steps in words."""
    best, stock = t.best, t.stock
    more = f" ({SHARED})" if best.candidate.controls.far else ""
    head = f"{t.k} calls{more}: {best.value:.4f} ± {best.stderr:.4f}"
    if best.candidate.kind == "stock":
        return f"{head} with {best.candidate}, which nothing that was learned came before."
    text = f"{head} against {stock.value:.4f} ± {stock.stderr:.4f} with the best stock sampler ({stock.candidate})"
    if t.same is None:
        return f"{text}; no stock sampler of up to {4 * t.k} calls comes as close."
    if t.break_even is None:
        return f"{text}; it saves no call."
    return (
        f"{text}, which needs {t.same} calls to come as close. Learning it took "
        f"{round(t.calls, -3):,} calls and {t.seconds:.0f} s: paid back after {round(t.break_even, -2):,.0f} samples."
    )


def _errors(found: Sequence[Tuned]) -> str:
    def paint(axes: Any) -> None:
        ks = [t.k for t in found]
        for rows, colour, marker, name in (
            ([t.stock for t in found], SECOND, "s", "best stock sampler"),
            ([t.best for t in found], FIRST, "o", "this run's"),
        ):
            axes.errorbar(
                ks, [m.value for m in rows], [m.stderr for m in rows],
                color=colour, marker=marker, ms=4.5, lw=2, elinewidth=1, capsize=2, label=name,
            )  # fmt: skip
        axes.axhline(found[0].floor, color=MUTED, lw=1, ls=":", label="error of the reference")
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
        axes.set_xticks(ks)
        axes.set_xlabel("calls of the network")
        axes.set_ylabel("distance from the flow")
        axes.legend(frameon=False)

    return draw("sequence-errors", "Distance from the flow by number of calls", paint, width=7.2)


def _levels(found: Sequence[Tuned]) -> str:
    def paint(axes: Any) -> None:
        for row, t in enumerate(found):
            for m, colour, marker, shift in ((t.stock, SECOND, "s", -0.14), (t.best, FIRST, "o", 0.14)):
                rho = m.candidate.controls.log_rho[-t.k :].exp().tolist()
                name = {"s": "best stock sampler", "o": "this run's"}[marker] if not row else None
                axes.plot(rho, [row + shift] * t.k, color=colour, marker=marker, ms=4.5, lw=0.8, label=name)
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
        axes.invert_xaxis()
        axes.set_yticks(range(len(found)), [str(t.k) for t in found])
        axes.set_ylim(len(found) - 0.5, -0.9)
        axes.set_ylabel("calls")
        axes.set_xlabel("← noisier · noise over signal · cleaner →")
        axes.legend(frameon=False, loc="upper right", ncols=2)

    return draw(
        "sequence-levels", "Noise levels of the calls", paint, width=7.2, height=1.6 + 0.5 * len(found)
    )


def _weights(found: Sequence[Tuned]) -> str:
    def paint(axes: Any) -> None:
        for t in found:
            controls = t.best.candidate.controls
            if controls.w is not None:
                axes.plot(
                    controls.log_rho.exp().tolist(),
                    controls.w.tolist(),
                    marker="o",
                    ms=4,
                    label=f"{t.k} calls",
                )
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
        axes.invert_xaxis()
        axes.set_xlabel("← noisier · noise over signal · cleaner →")
        axes.set_ylabel("guidance weight")
        axes.legend(frameon=False)

    return draw("sequence-weights", "Guidance weight by noise level", paint, width=7.2)
