"""What held-out tokens cost a model beside models that need no training: the chart of reports on texts and music."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.plots import FIRST, SECOND, draw
from kuosan.evaluation.report_words import baseline, number


def bits_chart(name: str, mine: Measurement, others: Mapping[str, float], title: str, unit: str) -> str:
    """Bars of bits, the most above: the model's by its ``name``, and those of ``others``."""
    rows = [(name, mine.value), *((baseline(k), v) for k, v in others.items())]
    rows.sort(key=lambda row: -row[1])

    def paint(axes: Any) -> None:
        values = [value for _, value in rows]
        colours = [SECOND if text == name else FIRST for text, _ in rows]
        axes.barh(range(len(rows)), values, color=colours, alpha=0.85, height=0.7)
        axes.set_yticks(range(len(rows)), [text for text, _ in rows])
        for i, value in enumerate(values):
            axes.text(value, i, f" {value:.2f}", va="center", fontsize=8)
        axes.set_xlabel(f"{unit}; fewer is better")
        axes.set_xlim(0, 1.12 * max(values))

    return draw("bits", title, paint, height=0.32 * len(rows) + 0.8)


def by_heart(what: str, train: Measurement | None) -> list[str]:
    """What training data cost, where that was measured."""
    if train is None:
        return []
    bits = number(train.value, train.stderr)
    return [f"Training {what} costs it {bits} (n = {train.n:,}): the difference is what it knows by heart."]
