"""The score's residual by noise level as a chart for a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kuosan.evaluation.plots import FIRST, MUTED, draw
from kuosan.explain.residual import LevelResidual


def residual_chart(model: Sequence[LevelResidual], exact: Sequence[LevelResidual]) -> str:
    """√E[R] of the model over the log-SNR, ± one standard error, and of an exact denoiser, as `<svg>`."""

    def paint(axes: Any) -> None:
        for rows, colour, marker, name in (
            (exact, MUTED, "s", "exact denoiser of a Gaussian"),
            (model, FIRST, "o", "this model"),
        ):
            axes.errorbar(
                [r.log_snr for r in rows], [r.root for r in rows], [r.root_stderr for r in rows],
                color=colour, marker=marker, ms=4.5, lw=2, elinewidth=1, capsize=2, label=name,
            )  # fmt: skip
        axes.set_ylim(0, max(1.05, 1.1 * max(r.root for r in model)))
        axes.set_xlabel("← noisier · log signal-to-noise ratio · cleaner →")
        axes.set_ylabel("residual √E[R]")
        axes.legend(frameon=False, loc="upper left")

    return draw("residual", "Fokker–Planck residual of the score by noise level", paint, width=7.2)
