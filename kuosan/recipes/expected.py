"""What held-out loss a run is likely to end with, and what a step of it computes, before it is begun.

The plan is trained for real, twice and briefly, on its own data: for S_1 and for S_2 = 4 S_1 steps, each with the whole
course of the learning rate, to losses L_1 and L_2. Over many runs of all sizes losses fall about as a power of the
steps, and ever more slowly as they near what no model can tell (Hestness et al. 2017; Kaplan et al. 2020):

    L(S) = L_∞ + (L_2 - L_∞) (S/S_2)^-β                                                             (1)

Two lengths do not tell L_∞: if it is L_2, the loss falls no more. And a run's first steps are slower than its law,
which begins once there is something to improve. So the probes' exponent is taken as known to a factor of two,

    L_2 (S/S_2)^-2β ≤ L(S) ≤ L_2,      β = log(L_1/L_2) / log 4                                     (2)

with half of β as the estimate, and two standard errors of L_2 are added on either side. Runs that stop early are
judged by their best loss, so that knowing data by heart does not lift (2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.utils.flop_counter import FlopCounterMode

from kuosan.core.random import Seeds
from kuosan.recipes import machine
from kuosan.recipes.build import build_model, build_settings, objective_of
from kuosan.recipes.opening import Plan
from kuosan.recipes.tokens import token_counts
from kuosan.training.averages import TRACKED
from kuosan.training.budget import Budget
from kuosan.training.loop import Training
from kuosan.training.validation import Validation

PROBE = 5.0  # seconds for both probes together
RATIO, FEWEST = 4, 10  # S_2/S_1, and S_1 at the least
LONGEST = 60.0  # seconds; a plan whose steps are so long that probes take longer has none


@dataclass(frozen=True)
class Expected:
    """Eq. 2: an estimate of the held-out loss between ``low`` and ``high``, from probes of these steps and losses."""

    value: float
    low: float
    high: float
    steps: tuple[int, int]
    losses: tuple[float, float]
    n: int


def extrapolated(steps: tuple[int, int], first: Validation, second: Validation, to: int) -> Expected:
    """Eq. 2 at ``to`` steps."""
    ratio, margin = max(1.0, to / steps[1]), 2 * (second.stderr if second.stderr == second.stderr else 0.0)
    fell = max(1.0, first.loss / second.loss) if first.loss > 0 < second.loss else 1.0
    beta = math.log(fell) / math.log(steps[1] / steps[0])
    low, value = (second.loss * ratio ** (-beta * share) for share in (2.0, 0.5))
    return Expected(value, low - margin, second.loss + margin, steps, (first.loss, second.loss), second.n)


def expected(plan: Plan, steps: int, step_seconds: float) -> Expected | str:
    """What the plan's held-out loss will be after so many steps; or why nothing can be said."""
    if plan.codec is not None:
        return "there are no latents to train on before the codec is trained"
    if not len(plan.data.val):
        return "nothing is held out"
    if plan.facts.recipe.adapter.rank:
        return "adapters start where the old model is"
    first = max(FEWEST, int(PROBE / (1 + RATIO) / step_seconds))
    first = min(first, max(FEWEST, steps // RATIO))
    if first * (1 + RATIO) * step_seconds > LONGEST:
        return "a step takes too long for a probe"
    lengths = (first, RATIO * first)
    found = [_probed(plan, n) for n in lengths]
    return extrapolated(lengths, found[0], found[1], steps)


def _probed(plan: Plan, steps: int) -> Validation:
    """The held-out loss after a short run with a course of its own."""
    with TemporaryDirectory(prefix="kuosan-") as folder:
        training = throwaway(plan, steps, Path(folder))
        for event in training.run():
            last = event.validation
    assert last is not None
    return last


def throwaway(plan: Plan, steps: int, folder: Path) -> Training:
    """A training of the plan for so many steps, which is validated at its end alone."""
    facts, recipe = plan.facts, plan.facts.recipe
    settings = build_settings(recipe.training, recipe.seed, Budget(steps=steps), None)
    denoiser = build_model(facts.network, recipe)
    if plan.start is not None:
        denoiser.load_state_dict(plan.start.weights_for(facts.network))
    elif recipe.process.discrete:
        denoiser.network.begin_with(token_counts(plan.data))  # type: ignore[union-attr, operator]
    return Training(
        denoiser,
        objective_of(recipe, plan.data.modality),
        plan.data.train,
        plan.data.val,
        # one average, as nobody will ask for others: no files of them in a run of few steps
        replace(settings, validations=1, patience=0, ema=settings.ema or TRACKED[0]),
        folder,
        null=facts.null,
        shelves=plan.data.train.shelves,
        device=machine.device(),
    )


def operations(training: Training) -> int:
    """Floating-point operations of a step, forward and back, a multiply-add being two."""
    settings = training.settings
    x, cond = training.train.batch(torch.arange(min(settings.batch, len(training.train))))
    x = x.to(training.device)
    cond = {k: v.to(training.device) for k, v in cond.items()}
    with FlopCounterMode(display=False) as counter:
        losses = training.objective(training.denoiser, x, Seeds.of(0, len(x)), **cond)
        losses.mean().backward()
    for parameter in training.parameters:
        parameter.grad = None
    return round(counter.get_total_flops() * settings.batch / len(x))
