"""`kuosan tune` for texts: how many tokens each step writes, fitted to some held-out passages and judged on others.

A passage x whose hidden tokens cost D_x(n) nats each when n of its tokens are revealed (`adapt.unmasking`) costs under
a schedule 0 = n_0 < … < n_K = L, and at one token per step,

    C_x = Σ_k (n_{k+1} - n_k) D_x(n_k),      C_x* = Σ_n D_x(n).                                     (1)

The schedule with the least mean C_x over the passages to fit to is found exactly (`core.unmasking`, eq. 2). Having the
least cost there is what it was chosen for, so it is judged on passages that it was not fitted to, beside two schedules
that are fitted to nothing; what is kept for a number of steps is the cheapest of the three on these. Most of what a
passage costs is its own and the same under every schedule, so differences are taken passage by passage:

    d = mean_x (C_x - C_x'),      its standard error = std_x (C_x - C_x') / √n.                     (2)

D_x is measured at every count that any of the schedules stops at, so that the first sum is exact; the second is linear
between these and some more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from kuosan.adapt.unmasking import hidden_costs, profile_of, stock_levels
from kuosan.core.random import Seeds
from kuosan.core.unmasking import UnmaskingProfile, cosine_counts, linear_counts
from kuosan.errors import UserError
from kuosan.evaluation.report_section import insert
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.run import Run
from kuosan.recipes.text_measure import Chosen, chosen
from kuosan.recipes.tokens import PROFILE
from kuosan.training.checkpoint import write_json

PASSAGES, FEWEST = 512, 8  # both halves together
LEVELS = 33
OPTIMAL, LINEAR, COSINE = "optimal", "linear", "cosine"
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Estimate:
    """A mean over passages and its standard error, in bits per token."""

    value: float
    stderr: float


@dataclass(frozen=True)
class Judged:
    """A number of steps: the counts of the optimal schedule, what every schedule adds to one token per step, how much
    less than each of the others the optimal one costs, and which is kept."""

    steps: int
    counts: tuple[int, ...]
    excess: Mapping[str, Estimate]
    saving: Mapping[str, Estimate]
    kept: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "steps": self.steps,
            "kept": self.kept,
            "counts": list(self.counts),
            **{
                name: {k: vars(v) for k, v in of.items()}
                for name, of in (("excess", self.excess), ("saving", self.saving))
            },
        }


@dataclass(frozen=True)
class TunedTexts:
    """What `tune_texts` found, from how many passages, and where it is kept."""

    profile: UnmaskingProfile
    fitted: int
    n: int
    judged: tuple[Judged, ...]
    path: Path
    seconds: float


def check(run: Run, steps: Sequence[int]) -> None:
    """UserError where there is no unmasking schedule to find."""
    kind = run.facts.recipe.process.kind
    if kind != "masked":
        why = {
            "autoregressive": "writes one token after the other",
            "blocks": "writes its blocks from left to right",
            "uniform": "has no masks",
        }.get(kind, "is no model of texts")
        raise UserError(
            f"{run.path} {why}, and an unmasking schedule is for masked texts: leave `kuosan tune` away, or train with "
            "--set process=masked"
        )
    length = run.latent_shape[0]
    if odd := [k for k in steps if not 2 <= k <= length] or ([0] if not steps else []):
        raise UserError(
            f"an unmasking schedule of {run.path} has 2 to {length} steps, one token per step at most, not {odd[0]}: "
            "give --steps 4,8,16"
        )


def tune_texts(
    run: Run,
    steps: Sequence[int] = (4, 8, 16, 32),
    *,
    seconds: float | None = None,
    seed: int = 0,
    out: Path | None = None,
    tell: Tell = lambda what, done: None,
) -> TunedTexts:
    """Fit the unmasking schedule of each number of steps, judge it, and keep it: in the run, or in ``out``.

    Args:
        seconds: altogether, about; the fewer there are, the fewer passages are measured.
        tell: is told what goes on, and the part that is done of it.

    Raises:
        UserError: the process has no such schedule, more steps than tokens, or too few held-out passages.
    """
    steps = sorted(dict.fromkeys(steps))
    check(run, steps)
    started = time.monotonic()
    split = data_of(run).val
    if len(split) < FEWEST:
        raise UserError(
            f"{run.path} holds {len(split)} passages out, and a schedule is fitted to some and judged on others, "
            f"{FEWEST} or more: train on more text"
        )
    length = run.latent_shape[0]
    fixed = [make(length, k) for k in steps for make in (linear_counts, cosine_counts)]
    knots = set(stock_levels(length, LEVELS))
    levels = sorted(knots.union(*(c[:-1].tolist() for c in fixed)))
    n = min(PASSAGES, len(split)) // 2 * 2
    if seconds is not None:
        calls = (len(knots) + len(levels) + sum(steps)) / 2  # the optimal schedules' counts are not known yet
        n = max(FEWEST, min(n, int(seconds / (calls * _seconds_per_call(run, split))) // 2 * 2))
    items = chosen(run, split, n)
    generator = torch.Generator().manual_seed(Seeds.of(seed, 1).fold("halves").number())
    order = torch.randperm(n, generator=generator)
    tell("what hidden tokens cost", 0.0)
    fitting = _costs(
        run, items, order[: n // 2], seed, sorted(knots), lambda part: tell("fitting", 0.5 * part)
    )
    profile = profile_of(fitting, sorted(knots), length)
    best = {k: profile.counts(k) for k in steps}
    levels = sorted({*levels, *(c for counts in best.values() for c in counts[:-1].tolist())})
    judging = _costs(
        run, items, order[n // 2 :], seed, levels, lambda part: tell("judging", 0.5 + 0.5 * part)
    )
    judged = tuple(judge(judging, levels, k, best[k], length) for k in steps)
    path = (run.path if out is None else out) / (PROFILE if out is None else Path(PROFILE).name)
    found = TunedTexts(profile, n // 2, n - n // 2, judged, path, time.monotonic() - started)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, _kept(found))
    if out is None:
        from kuosan.recipes.report_unmasking import section

        if shown := section(profile, found):
            insert(shown, run.path / "report.html")
    return found


def judge(
    costs: Float64[Tensor, "n k"],
    levels: Sequence[int],
    steps: int,
    counts: Int64[Tensor, " K+1"],
    length: int,
) -> Judged:
    """Eqs. 1 and 2 of passages whose hidden tokens cost ``costs`` at the counts ``levels``.

    Args:
        counts: the schedule that was fitted to others; all counts of it, and of the two that are fitted to nothing,
            are among the levels.
    """
    bits = length * log(2)
    schedules = {OPTIMAL: counts, LINEAR: linear_counts(length, steps), COSINE: cosine_counts(length, steps)}
    whole = costs @ _sum_of_line(levels, length)
    each = {name: costs @ _left_sum(levels, counts) for name, counts in schedules.items()}
    excess = {name: _mean((cost - whole) / bits) for name, cost in each.items()}
    saving = {name: _mean((each[name] - each[OPTIMAL]) / bits) for name in (LINEAR, COSINE)}
    kept = min(excess, key=lambda name: excess[name].value)  # the first of equals, which is the optimal one
    return Judged(steps, tuple(counts.tolist()), excess, saving, kept)


def _left_sum(levels: Sequence[int], counts: Int64[Tensor, " K+1"]) -> Float64[Tensor, " k"]:
    """The first sum of eq. 1, as weights of the levels."""
    at = torch.searchsorted(torch.tensor(levels), counts[:-1])
    return torch.zeros(len(levels), dtype=torch.float64).index_add_(0, at, counts.diff().double())


def _sum_of_line(levels: Sequence[int], length: int) -> Float64[Tensor, " k"]:
    """The second sum of eq. 1, of what is linear between the levels, which run from 0 to L - 1, as weights of them."""
    knots, n = torch.tensor(levels).double(), torch.arange(length, dtype=torch.float64)
    weights = torch.zeros(len(levels), dtype=torch.float64)
    if len(levels) == 1:
        return weights + length
    right = torch.searchsorted(knots, n).clamp(1, len(levels) - 1)
    part = (n - knots[right - 1]) / (knots[right] - knots[right - 1])
    return weights.index_add_(0, right - 1, 1 - part).index_add_(0, right, part)


def _mean(values: Float64[Tensor, " n"]) -> Estimate:
    return Estimate(float(values.mean()), float(values.std() / len(values) ** 0.5))


def _costs(
    run: Run, items: Chosen, index: Tensor, seed: int, levels: Sequence[int], tell: Callable[[float], None]
) -> Float64[Tensor, "n k"]:
    """`hidden_costs` of these passages, which are the same whatever stands beside them."""
    device, found = next(run.model.parameters()).device, []
    for part in index.split(64):
        x, cond = items.batch(part)
        cond = {k: v.to(device) for k, v in cond.items()}
        seeds = Seeds.of(seed, part.tolist()).fold("unmasking")
        found.append(hidden_costs(run.model, x.to(device), seeds, levels, **cond))  # type: ignore[arg-type]
        tell(sum(map(len, found)) / len(index))
    return torch.cat(found)


def _seconds_per_call(run: Run, split: Any) -> float:
    """Of one passage, from two calls here and now."""
    items = chosen(run, split, 64)
    index = torch.arange(len(items))
    for _ in range(2):
        started = time.monotonic()
        _costs(run, items, index, 0, [0], lambda part: None)
    return (time.monotonic() - started) / len(items)


def _kept(found: TunedTexts) -> dict[str, Any]:
    """The profile, as `UnmaskingProfile` reads it, the schedule to use for each number of steps, and how they did."""
    return {
        **found.profile.to_json(),
        "kept": {str(one.steps): one.kept for one in found.judged},
        "passages": {"fitted": found.fitted, "judged": found.n},
        "judged": [one.to_json() for one in found.judged],
    }
