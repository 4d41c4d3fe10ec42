"""`kuosan tune` for texts: how many tokens each step writes, fitted to some held-out passages and judged on others.

A passage x whose tokens n … m - 1 of the sampler's order cost W_x(n, m) nats when they are written together
(`adapt.unmasking`, eq. 1) costs under a schedule 0 = n_0 < … < n_K = L

    C_x = Σ_k W_x(n_k, n_{k+1}).                                                                    (1)

The schedule with the least mean C_x over the passages to fit to is found exactly (`core.unmasking`, eq. 2). Having the
least cost there is what it was chosen for, so it is judged on passages that it was not fitted to, beside schedules that
are fitted to nothing; what is kept for a number of steps is the cheapest on these. Even steps in a random order are
judged too, to show what the order saves. Most of what a passage costs is its own and the same under every schedule, so
differences are taken passage by passage:

    d = mean_x (C_x - C_x'),      its standard error = std_x (C_x - C_x') / √n.                     (2)
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

from kuosan.adapt.unmasking import costs, profile_of, stock_levels
from kuosan.core.random import Seeds
from kuosan.core.unmasking import UnmaskingProfile, cosine_counts, linear_counts
from kuosan.errors import UserError
from kuosan.evaluation.report_section import insert
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.run import Run
from kuosan.recipes.text_measure import Chosen, chosen
from kuosan.recipes.tokens import PROFILE, order_of
from kuosan.training.checkpoint import write_json

PASSAGES, FEWEST = 512, 8  # both halves together
OPTIMAL, LINEAR, COSINE, RANDOM = "optimal", "linear", "cosine", "random"
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Estimate:
    """A mean over passages and its standard error, in bits per token."""

    value: float
    stderr: float


@dataclass(frozen=True)
class Judged:
    """A number of steps: the counts of the optimal schedule, what a token costs under every one, in bits, how much less
    the optimal one costs than each of the others, and which is kept. ``random`` is even steps in a random order."""

    steps: int
    counts: tuple[int, ...]
    bits: Mapping[str, Estimate]
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
                for name, of in (("bits", self.bits), ("saving", self.saving))
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
    order = order_of(run)
    knots = stock_levels(length)
    even = sorted({n for k in steps for n in linear_counts(length, k).tolist()})
    fixed = {*knots, *even, *(n for k in steps for n in cosine_counts(length, k).tolist())}
    n = min(PASSAGES, len(split)) // 2 * 2
    if seconds is not None:
        calls = (len(knots) + len(fixed) + len(even)) / 2
        n = max(FEWEST, min(n, int(seconds / (calls * _seconds_per_call(run, split))) // 2 * 2))
    items = chosen(run, split, n)
    generator = torch.Generator().manual_seed(Seeds.of(seed, 1).fold("halves").number())
    index = torch.randperm(n, generator=generator)
    fitting, judging = index[: n // 2], index[n // 2 :]
    tell("what tokens cost", 0.0)
    found = _costs(run, items, fitting, seed, knots, order, lambda part: tell("fitting", 0.4 * part))
    profile = profile_of(found, knots, order)
    best = {k: profile.counts(k) for k in steps}
    levels = sorted(fixed.union(*(counts.tolist() for counts in best.values())))
    own = _costs(run, items, judging, seed, levels, order, lambda part: tell("judging", 0.4 + 0.5 * part))
    other = _costs(
        run, items, judging, seed, even, "first-hitting", lambda part: tell("judging", 0.9 + 0.1 * part)
    )
    judged = tuple(judge((own, levels), (other, even), best[k], length) for k in steps)
    path = (run.path if out is None else out) / (PROFILE if out is None else Path(PROFILE).name)
    tuned = TunedTexts(profile, n // 2, n - n // 2, judged, path, time.monotonic() - started)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, _kept(tuned))
    if out is None:
        from kuosan.recipes.report_unmasking import section

        if shown := section(profile, tuned):
            insert(shown, run.path / "report.html")
    return tuned


Found = tuple[Float64[Tensor, "n k k+1"], Sequence[int]]


def judge(own: Found, other: Found, counts: Int64[Tensor, " K+1"], length: int) -> Judged:
    """Eqs. 1 and 2 of passages.

    Args:
        own: what their tokens cost in the order that the schedule is for, and the counts at which: all of its, and of
            even and cosine steps.
        other: the same in a random order, at the counts of even steps.
        counts: the schedule that was fitted to other passages.
    """
    steps = len(counts) - 1
    linear = linear_counts(length, steps)
    each = {
        OPTIMAL: _sum(own, counts),
        LINEAR: _sum(own, linear),
        COSINE: _sum(own, cosine_counts(length, steps)),
    }
    kept = min(
        each, key=lambda name: float(each[name].mean())
    )  # the first of equals, which is the optimal one
    each[RANDOM] = _sum(other, linear)
    each = {name: cost / (length * log(2)) for name, cost in each.items()}
    saving = {name: _mean(cost - each[OPTIMAL]) for name, cost in each.items() if name != OPTIMAL}
    return Judged(
        steps, tuple(counts.tolist()), {name: _mean(cost) for name, cost in each.items()}, saving, kept
    )


def _sum(found: Found, counts: Int64[Tensor, " K+1"]) -> Float64[Tensor, " n"]:
    """Eq. 1 of every passage."""
    values, levels = found
    at = torch.searchsorted(torch.tensor(levels), counts)
    return values[:, at[:-1], at[1:]].sum(1)


def _mean(values: Float64[Tensor, " n"]) -> Estimate:
    return Estimate(float(values.mean()), float(values.std() / len(values) ** 0.5))


def _costs(
    run: Run,
    items: Chosen,
    index: Tensor,
    seed: int,
    levels: Sequence[int],
    order: str,
    tell: Callable[[float], None] = lambda part: None,
) -> Float64[Tensor, "n k k+1"]:
    """`costs` of these passages, which are the same whatever stands beside them."""
    device, found = next(run.model.parameters()).device, []
    for part in index.split(64):
        x, cond = items.batch(part)
        cond = {k: v.to(device) for k, v in cond.items()}
        seeds = Seeds.of(seed, part.tolist()).fold("unmasking")
        found.append(costs(run.model, x.to(device), seeds, levels, order=order, **cond))  # type: ignore[arg-type]
        tell(sum(map(len, found)) / len(index))
    return torch.cat(found)


def _seconds_per_call(run: Run, split: Any) -> float:
    """Of one passage, from two calls here and now."""
    items = chosen(run, split, 64)
    index = torch.arange(len(items))
    for _ in range(2):
        started = time.monotonic()
        _costs(run, items, index, 0, [0, run.latent_shape[0]], "first-hitting")
    return (time.monotonic() - started) / len(items)


def _kept(tuned: TunedTexts) -> dict[str, Any]:
    """The profile, as `UnmaskingProfile` reads it, the schedule to use for each number of steps, and how they did."""
    return {
        **tuned.profile.to_json(),
        "kept": {str(one.steps): one.kept for one in tuned.judged},
        "passages": {"fitted": tuned.fitted, "judged": tuned.n},
        "judged": [one.to_json() for one in tuned.judged],
    }
