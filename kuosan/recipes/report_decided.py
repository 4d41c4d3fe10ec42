"""The report's section on where the data is decided: the entropy's profile, and where training looked."""

from __future__ import annotations

from typing import Any

import torch

from kuosan.core.entropy import EntropyProfile
from kuosan.core.schedules import Schedule
from kuosan.evaluation.plots import FIRST, MUTED, SECOND, Points, draw
from kuosan.evaluation.report_section import Section
from kuosan.recipes.run import Run
from kuosan.training.timing import Timing

TITLE = ("decided", "Where it is decided", "At which noise is the data decided?")
RANGE = (-10.0, 12.0)  # of log-SNRs that are shown


def decided(run: Run, timing: Timing) -> Section | None:
    """The profile beside the density of training times, and beside the usual one where that was learned; None where the
    run has no profile."""
    if run.profile is None:
        return None
    schedule, profile = run.denoiser.schedule, run.profile
    lines = [("training times", density(timing, schedule), FIRST)]
    words = [_words(run, profile)]
    if timing.fixed is not timing:
        lines = [
            ("learned times", lines[0][1], FIRST),
            ("usual times", density(timing.fixed, schedule), MUTED),
        ]
        words.append(
            "The density of training times followed the entropy as training saw it, down to a resolution, with an even "
            "floor that keeps every level in sight."
        )
    caption = (
        f"Rate of the entropy by noise level, measured at {len(profile.rates)} levels on items that the model was not "
        "trained on where there are enough, beside the density of training times; each has the area 1."
    )
    return Section(*TITLE, words, [(caption, _chart(profile, lines))])


def density(timing: Timing, schedule: Schedule) -> Points:
    """(λ, density over λ), within `RANGE`."""
    u = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    with torch.no_grad():
        t = timing.quantile(schedule, u)
        p = timing.density(schedule, u) / -schedule.log_snr_rate(t)
        found = zip(schedule.log_snr(t).tolist(), p.tolist(), strict=True)
    return [(x, y) for x, y in found if RANGE[0] <= x <= RANGE[1]]


def _words(run: Run, profile: EntropyProfile) -> str:
    low, high = RANGE
    half = float(profile.split(low, high, torch.tensor([0.5], dtype=torch.float64))[0])
    return (
        "How fast falling noise tells of the data: ½ SNR times the squared error of the estimate, in nats per element "
        f"and unit of log-SNR (I-MMSE; an upper estimate). Between log-SNR {low:g} and {high:g} these are "
        f"{profile.nats(low, high):.2f} nats per element, half of them below log-SNR {half:.1f}. `kuosan sample "
        f"{run.path.name} --grid entropy` takes steps of equal entropy."
    )


def _chart(profile: EntropyProfile, lines: list[tuple[str, Points, str]]) -> str:
    levels = torch.linspace(*RANGE, 221, dtype=torch.float64)
    rates = profile.rate(levels) / profile.nats(*RANGE)

    def paint(axes: Any) -> None:
        axes.fill_between(levels.tolist(), rates.tolist(), color=SECOND, alpha=0.2, lw=0)
        axes.plot(levels.tolist(), rates.tolist(), color=SECOND, lw=2, label="entropy of the data")
        for name, points, colour in lines:
            axes.plot(*zip(*points, strict=True), color=colour, lw=2, label=name)
        axes.set_xlabel("← noisier · log signal-to-noise ratio · cleaner →")
        axes.set_ylabel("density")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, loc="upper left")

    return draw("decided", "Entropy rate and density of training times by noise level", paint, width=7.2)
