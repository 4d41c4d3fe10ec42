"""The churn of a run's stochastic sampler, learned from its data; see `kuosan.adapt.churn`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kuosan.adapt.churn import TURNS
from kuosan.adapt.churn import churn as learn_churn
from kuosan.adapt.flow import time_of
from kuosan.adapt.grids import stock_grids
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.evaluation.likelihood.fold import shuffled
from kuosan.modalities import Split
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.run import Run
from kuosan.recipes.sequences import SEED, fingerprint, flow_of, path_of
from kuosan.solvers.sequence import CHURN, Sequence

SAMPLES = 256  # for each look
ITEMS, FEWEST = 512, 16  # real items that churn is learned from and chosen by


@dataclass(frozen=True)
class Stochastic:
    """A sequence with churn, and where it is kept."""

    sequence: Sequence
    path: Path


def items_of(run: Run, seed: int) -> tuple[Tensor, Tensor]:
    """What the network works on, of items of the run's data: to learn from, and held out to choose by.

    Raises:
        UserError: a process that is not Gaussian, or too little data.
    """
    process = run.denoiser.process
    if not isinstance(process, GaussianProcess):
        raise UserError(f"churn is Gaussian noise put back, and {run.path} is {process}: leave --churn away")
    if run.foreign:
        raise UserError(
            f"{run.path} is a pipeline, without data that churn could be chosen by: leave --churn away"
        )
    data = data_of(run, None)
    if min(len(data.train), len(data.val)) < FEWEST:
        raise UserError(
            f"{data.survey.source} has {len(data.val)} held-out items and churn needs {FEWEST} to choose by: add "
            "a folder val/, or leave --churn away"
        )
    device = next(run.denoiser.parameters()).device

    def states(split: Split) -> Tensor:
        x, _ = shuffled(split, ITEMS, seed).batch(torch.arange(min(ITEMS, len(split))))
        return run.encoded(x).to(device)

    return states(data.train), states(data.val)


def stochastic(
    run: Run,
    items: tuple[Tensor, Tensor],
    k: int,
    w: float,
    *,
    seed: int,
    part: float,
    out: Path | None,
    tell: Callable[[str, float], None],
) -> Stochastic:
    """The churn with which k calls come closest to these items, with ``part`` of the usual effort; see
    `kuosan.adapt.churn`."""
    flow = flow_of(run, w)
    rhos = {
        n: rho for n, rho in stock_grids(flow, k) if n.startswith(("logsnr", "karras:7")) and "to 0.02" in n
    }
    found = learn_churn(
        run.guided(w), rhos, items,
        lambda n: run.conditions(SEED, range(n)), Seeds.of(seed, 1),
        n=max(64, round(SAMPLES * part)), turns=max(8, round(TURNS * part)),
        tell=lambda done: tell(f"{k} steps: churn", done),
    )  # fmt: skip
    times = torch.cat([time_of(flow.schedule, found.rho[:-1].log()), torch.zeros(1, dtype=torch.float64)])
    name = next(n for n, rho in rhos.items() if rho is found.rho)
    about = {
        "kind": "churn", "kept": found.kept, "calls": found.calls,
        "energy": {arm: {"value": v, "stderr": e} for arm, (v, e) in found.tried.items()},
    }  # fmt: skip
    sequence = Sequence(
        k, CHURN, name, tuple(times.tolist()), guidance=w, eta=tuple(found.eta.tolist()),
        model=fingerprint(run), about=about,
    )  # fmt: skip
    path = path_of(run, k, w, churn=True)
    path = path if out is None else out / path.name
    sequence.save(path)
    return Stochastic(sequence, path)
