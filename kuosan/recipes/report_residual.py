"""The report's section of the score's residual: at which noise the model contradicts itself."""

from __future__ import annotations

import time

from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.denoisers.exact import MixtureDenoiser
from kuosan.evaluation.report_section import Section
from kuosan.explain.residual import LevelResidual, residual_by_level
from kuosan.explain.residual_chart import residual_chart
from kuosan.modalities import Split
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.report_returned import call_seconds, spread
from kuosan.recipes.run import Run

LEVELS = (0.0, 4.0, -4.0, 2.0, 6.0, -2.0)  # log-SNRs, the most telling first
ENOUGH = 3  # of them that are worth showing
ITEMS, PROBES = 16, 2
CALLS = 30.0  # of the network that the residual of one level costs, both probes together
TITLE = ("residual", "Consistency", "Does it contradict itself?")


def residual(run: Run, split: Split, seconds: float) -> Section | None:
    """The residual where held-out items lead, level by level while there is time; None where nothing is held out."""
    process = run.denoiser.process
    if not len(split):
        return None
    if not isinstance(process, GaussianProcess):
        return Section(*TITLE, [f"Not measured: there is no score in {process}."])
    items = spread(run, split, ITEMS)
    cost = CALLS * call_seconds(run, items)
    if ENOUGH * cost > seconds:
        why = (
            f"{ENOUGH} levels of noise would take {ENOUGH * cost:.1f} s, and {seconds:.1f} s were left for it"
        )
        return Section(*TITLE, [f"The Fokker–Planck residual of the score was not measured: {why}."])
    device = next(run.denoiser.parameters()).device
    x, cond = run.encoded(items.x).to(device), {k: v.to(device) for k, v in items.cond.items()}
    started = time.monotonic()
    model: list[LevelResidual] = []
    exact: list[LevelResidual] = []
    gaussian = fitted(process, x)
    for level in LEVELS:
        if len(model) >= ENOUGH and time.monotonic() - started + cost > seconds:
            break
        seeds = Seeds.of(run.facts.recipe.seed, len(items)).fold("residual")
        model += residual_by_level(run.denoiser, x, [level], seeds, PROBES, **cond)
        exact += residual_by_level(gaussian, x, [level], seeds, PROBES)
        cost = (time.monotonic() - started) / len(model)
    model, exact = (sorted(rows, key=lambda r: r.log_snr) for rows in (model, exact))
    worst = max(model, key=lambda r: r.root)
    caption = (
        f"Fokker–Planck residual of the score at {len(model)} levels of noise, {len(items)} held-out items each, "
        f"{PROBES} random probes per item, ± one standard error."
    )
    return Section(*TITLE, _words(worst), [(caption, residual_chart(model, exact))])


def fitted(process: GaussianProcess, x: Tensor) -> MixtureDenoiser:
    """The exact denoiser of independent Gaussian elements with the mean and variance of these items: its residual
    is 0, and what is computed for it is what rounding and probes make of 0."""
    return MixtureDenoiser(process, x.mean(0, keepdim=True), x.var(0, keepdim=True))


def _words(worst: LevelResidual) -> list[str]:
    error = f" ± {worst.root_stderr:.2f}" if worst.root else ""
    here = (
        "The residual is by how many of its own standard deviations, per element and unit of log-SNR, the noise that "
        "the model sees drifts from what the corruption of any data at all would do (Fokker–Planck equation): here at "
        f"most {worst.root:.2f}{error}, at log-SNR {worst.log_snr:g}."
    )
    scale = (
        "An exact model has 0 (the grey line, computed the same way), and near 1 a prediction goes its own way "
        "altogether; on small digits the worst level fell from 0.85 after half a minute of training to 0.19 after a "
        "hundred seconds, so compare levels with each other and with a longer run, and do not take it for the quality "
        "of samples."
    )
    return [here, scale]
