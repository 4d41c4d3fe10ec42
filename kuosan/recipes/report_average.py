"""The report's section on the average that the weights were taken from: the held-out loss by its length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kuosan.evaluation.plots import FIRST, MUTED, SECOND, draw, plain_ticks
from kuosan.evaluation.report_section import Section
from kuosan.evaluation.report_words import count, number
from kuosan.recipes.average import Tried, chosen

TITLE = ("average", "Averages", "Which average of the weights?")


def average_section(path: Path) -> Section | None:
    """What was tried for the run in this folder; None where its length was given."""
    found = chosen(path)
    if found is None:
        return None
    tried: list[Tried] = found["tried"]
    best = next(t for t in tried if t.length == found["chosen"])
    loss = f"{number(best.loss, best.stderr)} ± {number(best.stderr, best.stderr)} (n = {count(best.n)})"
    lead = [
        (
            "The weights are an average over training, and how long it should be is known only when training has "
            f"ended. So averages of two lengths were kept as it went, and those of {len(tried)} lengths made of them: "
            f"the least held-out loss, {loss}, is that of length {best.length:g} (the standard deviation of the steps "
            f"in it, relative to all {count(found['step'])}). `kuosan sample {path.name} --ema LENGTH` takes another."
        )
    ]
    caption = (
        "Held-out loss by the length of the average, above the least; bars are standard errors of the difference, item "
        f"by item, n = {count(best.n)}."
    )
    return Section(*TITLE, lead, [(caption, _chart(tried, best))])


def _chart(tried: list[Tried], best: Tried) -> str:
    lengths, more = [t.length for t in tried], [t.more for t in tried]

    def paint(axes: Any) -> None:
        axes.axhline(0, color=MUTED, lw=1)
        axes.errorbar(
            lengths, more, [t.more_stderr for t in tried], color=FIRST, lw=2, marker="o", ms=4, capsize=2
        )
        axes.plot([best.length], [best.more], color=SECOND, marker="o", ms=7, ls="none")
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
        axes.set_xlabel("length of the average, relative to the run")
        axes.set_ylabel("held-out loss above the least")

    return draw("average", "Held-out loss by length of the average", paint)
