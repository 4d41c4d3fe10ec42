"""`kuosan tune`: control sequences for a run, kept with it and drawn in its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kuosan.adapt.candidates import QUICK
from kuosan.adapt.flow import Flow
from kuosan.adapt.tune import Effort, Stages, Tuned
from kuosan.adapt.tune import tune as learn
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.evaluation.report_section import insert
from kuosan.processes.additive import AdditiveProcess
from kuosan.recipes.churn import Stochastic, items_of, stochastic
from kuosan.recipes.report_tune import section
from kuosan.recipes.run import Run
from kuosan.recipes.sequences import LONGEST, SEED, flow_of, pairs_of, path_of, piece_for, sequence_of
from kuosan.solvers.sequence import Sequence as ControlSequence

PAIRS, HELD_OUT, FEWEST = 512, 192, 64
MOST = 4.0  # times the usual pairs and batches, where a budget has room for them
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Learned:
    """A sequence, where it is kept, and how it was found."""

    sequence: ControlSequence
    path: Path
    tuned: Tuned


def check(run: Run, steps: Sequence[int], pairs: int, w: float, guidance: bool) -> None:
    """UserError where there is nothing to learn."""
    few = [k for k in steps if k < 2]
    if few or not steps:
        raise UserError(
            f"a control sequence has two calls or more, not {few[0] if few else 'none'}: give --steps 4,6,8; for one "
            f"call train a student with `kuosan distil {run.path} --steps 1`"
        )
    if max(steps) > LONGEST:
        raise UserError(
            f"{max(steps)} steps need no tuning, every good sampler is on the flow by then: give --steps up to "
            f"{LONGEST}"
        )
    if pairs < FEWEST:
        raise UserError(
            f"{pairs} pairs of noise and end point are too few to hold any out: give --pairs {FEWEST} or more"
        )
    if not isinstance(run.denoiser.process, AdditiveProcess):
        raise UserError(
            f"{run.path} has no flow from noise to data to follow ({run.denoiser.process}): tuning is for states of "
            "numbers under additive noise"
        )
    if known := run.facts.recipe.distil.steps:
        raise UserError(f"{run.path} is a student that knows {known} steps and their times: tune its teacher")
    if guidance and (not run.facts.null or w == 1):
        raise UserError(
            "a curve of guidance weights needs conditions and a weight to keep to: give --w 2, say, to a run with "
            "classes, or leave --guidance away"
        )


def tune(
    run: Run,
    steps: Sequence[int] = (4, 6, 8, 10),
    *,
    w: float | None = None,
    guidance: bool = False,
    churn: bool = False,
    pairs: int = PAIRS,
    seconds: float | None = None,
    seed: int = 0,
    out: Path | None = None,
    tell: Tell = lambda what, done: None,
) -> tuple[list[Learned], list[Stochastic]]:
    """Learn a sequence for each number of steps, and keep it: in the run, or in ``out``.

    Args:
        w: the guidance weight to sample with; the run's own unless given.
        guidance: learn a weight for every call too. churn: also learn the churn of a stochastic sampler, kept apart.
        pairs: of noise and end point to fit to; three eighths as many are held out.
        seconds: for each number of steps, about; more or fewer pairs and batches, as the time allows.
        tell: is told what goes on, and the part that is done of it.

    Raises:
        UserError: fewer than two steps, too few pairs, a process without a flow, a student, or guidance without
            conditions.
    """
    weight = run.facts.recipe.sampling.w if w is None else w
    steps = sorted(dict.fromkeys(steps))
    check(run, steps, pairs, weight, guidance)
    items = items_of(run, seed) if churn else None  # before anything is learned: there may be none
    with torch.inference_mode(False):
        flow = flow_of(run, None if guidance else weight)
        start = weight if guidance else None
        piece = piece_for(run, flow, start)
        stages, share = Stages(), 1.0
        if seconds is not None:
            share = min(MOST, (seconds / _estimate(run, flow, max(steps), pairs, start, piece)) ** 0.5)
            pairs, stages = max(FEWEST, int(pairs * share)), _scaled(stages, share)
        held_out = pairs * HELD_OUT // PAIRS
        tell("the flow itself", 0.0)
        all_, floor = pairs_of(run, flow, pairs + held_out, max(steps), w=start, piece=piece)
        spent, found = flow.calls, []
        for k in steps:
            tuned = learn(
                flow, k, all_[:pairs], all_[pairs:], Seeds.of(seed, 1).fold("tune", k), floor=floor,
                spent=spent // len(steps), stages=stages, w=start,
                tell=lambda what, done, k=k: tell(f"{k} steps: {what}", done),  # type: ignore[misc]
            )  # fmt: skip
            found.append(_kept(run, flow, tuned, weight, out))
        churned = []
        if items is not None:
            options: dict[str, Any] = {"seed": seed, "part": min(1.0, share), "out": out, "tell": tell}
            churned = [stochastic(run, items, k, weight, **options) for k in steps]
    run.forget_sequences()
    if out is None:
        insert(section([f.tuned for f in found], weight), run.path / "report.html")
    return found, churned


def _kept(run: Run, flow: Flow, tuned: Tuned, w: float, out: Path | None) -> Learned:
    about: dict[str, Any] = {
        "n": tuned.n, "floor": tuned.floor, "calls": tuned.calls, "seconds": round(tuned.seconds, 2),
        "stock_error": tuned.stock.value, "stock_steps_as_close": tuned.same,
        "break_even_samples": None if tuned.break_even is None else round(tuned.break_even),
    }  # fmt: skip
    sequence = sequence_of(run, flow, tuned.all, w, about)
    path = path_of(run, tuned.k, w)
    path = path if out is None else out / path.name
    sequence.save(path)
    return Learned(sequence, path, tuned)


def _estimate(run: Run, flow: Flow, k: int, pairs: int, w: float | None, piece: int) -> float:
    """Seconds that the full effort would take for k steps, from two calls here and now."""
    count = min(piece, 32)
    like = torch.empty(count, *run.latent_shape, device=next(run.denoiser.parameters()).device)
    z = flow.noise(like, Seeds.of(SEED, count))
    cond = {name: c.to(z.device) for name, c in run.conditions(SEED, range(count)).items()}
    weight = None if w is None else torch.full((count,), w, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(2):
            started = time.monotonic()
            flow.estimate(z, torch.zeros(count, dtype=torch.float64), weight, **cond)
    per_call = (time.monotonic() - started) / count
    stages = Stages()
    efforts = (*[stages.times, stages.decoupled] * stages.starts, stages.full)
    fitted = sum(e.batches * e.batch for e in efforts)
    return per_call * (1.4 * pairs * 110 + k * (5 * fitted + 9000))


def _scaled(stages: Stages, part: float) -> Stages:
    """The same stages with so many times their batches, never fewer than there is something to learn from."""

    def scaled(e: Effort) -> Effort:
        return replace(e, batches=max(4, round(e.batches * part)))

    return (
        replace(stages, full=scaled(stages.full))
        if part > 1
        else replace(
            stages,
            times=scaled(stages.times),
            decoupled=scaled(stages.decoupled),
            full=scaled(stages.full),
            starts=stages.starts if part > 0.5 else 1,
            search=stages.search if part > 0.3 else QUICK,
        )
    )
