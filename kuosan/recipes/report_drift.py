"""What became of the old model: how far samples of the same seeds have moved, and what either model says of old and of
new data.

The distance of samples is taken relative to that of two samples of the old model with different seeds, so that 0 is the
old model and 1 another sample altogether:

    drift² = E ‖x'(s) - x(s)‖² / E ‖x(s̃) - x(s)‖²,      s̃ ≠ s                                    (1)

(of texts the share of tokens that differ, in place of the squares). Held-out losses are asked at the same items, times
and noise of both models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.evaluation.report_section import Section, Words
from kuosan.evaluation.report_words import number
from kuosan.modalities import Split
from kuosan.recipes.adapters import renumbered
from kuosan.recipes.build import objective_of
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.run import Run
from kuosan.training.validation import Validation, validate

if TYPE_CHECKING:
    from kuosan.recipes.session import Session

SHOWN, MOST, TEXTS = 8, 32, 3
SEED = 2_000_000  # of the samples that are compared
DATA_SECONDS = 4.0  # below them the old data is not read again


@dataclass(frozen=True)
class Drift:
    """Eq. 1 with its standard error; the samples that it is of, old and new; losses by data and by model."""

    value: float
    stderr: float
    old: Tensor
    new: Tensor
    losses: dict[str, dict[str, Validation]]

    def to_json(self) -> dict[str, Any]:
        losses = {
            data: {model: {"value": v.loss, "stderr": v.stderr, "n": v.n} for model, v in both.items()}
            for data, both in self.losses.items()
        }
        samples = {"value": self.value, "stderr": self.stderr, "n": len(self.old)}
        return {"samples": samples, "held_out_loss": losses}


def drift_of(session: Session) -> Drift | None:
    """Measured within a fifth of what the budget has left, or of ten seconds; None of a run without adapters."""
    if session.adapter is None:
        return None
    run, base, left = session.run, Run(session.facts.recipe.init), session.remaining()
    most = 10.0 if left is None else 0.2 * left
    each = session.seconds_per_sample
    n = max(SHOWN, min(MOST, int(0.3 * most / max(each, 1e-9))))
    old, new = _pair(run, base, n)
    value, stderr = relative(old, new, run.facts.recipe.process.discrete)
    losses = {"the new data": _losses(run, base, session.data.val, of=run)}
    try:
        if most >= DATA_SECONDS:
            losses["the old data"] = _losses(run, base, data_of(base).val, of=base)
    except UserError:  # it is not there any more
        pass
    return Drift(value, stderr, old, new, {k: v for k, v in losses.items() if v})


def _pair(run: Run, base: Run, n: int) -> tuple[Tensor, Tensor]:
    """States of either model from the same noise, by the same sampler, under the old one's conditions."""
    own = base.facts.recipe.sampling
    grid = "linear" if base.facts.recipe.process.discrete else own.grid
    cond, out = base.conditions(SEED, range(n)), []
    with torch.inference_mode():
        for model in (base, run):
            given = renumbered(cond, base.facts.columns, model.facts.columns, n)
            for step in model.walk(
                Seeds.of(SEED, n), given, steps=own.steps, solver_name=own.solver, grid=grid, w=own.w
            ):
                x = step.x
            out.append(model.decoded(x).cpu().clone())
    return out[0], out[1]


def relative(old: Tensor, new: Tensor, discrete: bool) -> tuple[float, float]:
    """Eq. 1 of pairs of states, with its standard error over them."""
    if discrete:
        near, far = ((x != old).flatten(1).double().mean(1) for x in (new, old.roll(1, 0)))
    else:
        near, far = ((x - old).flatten(1).double().square().mean(1) for x in (new, old.roll(1, 0)))
    if not far.any():
        return math.nan, math.nan
    ratio = near / far.mean()
    value, stderr = float(ratio.mean()), float(ratio.std() / len(ratio) ** 0.5)
    if discrete:
        return value, stderr
    return value**0.5, stderr / (2 * value**0.5) if value else 0.0


@dataclass(frozen=True)
class _Told:
    """Items as one model is told of them, whose conditions ``of`` numbers."""

    split: Split
    of: Run
    to: Run

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, index: Int64[Tensor, " b"]) -> tuple[Tensor, dict[str, Tensor]]:
        x, cond = self.split.batch(index)
        cond = renumbered(cond, self.of.facts.columns, self.to.facts.columns, len(x))
        return self.to.encoded(x), cond


def _losses(run: Run, base: Run, val: Split, of: Run) -> dict[str, Validation]:
    """Of either model; empty where nothing is held out."""
    objective = objective_of(run.facts.recipe)
    if not len(val):
        return {}
    return {
        name: validate(model.model, objective, _Told(val, of, model), next(model.model.parameters()).device)
        for name, model in (("before", base), ("after", run))
    }


def section(session: Session, drift: Drift | None) -> list[Section]:
    """What the report says of it; nothing of a run without adapters."""
    if drift is None:
        return []
    run, part = session.run, session.facts.recipe.adapter
    base, texts = session.facts.recipe.init, session.facts.recipe.process.discrete
    whole = f", and {', '.join(part.whole)} whole" if part.whole else ""
    first = (
        f"The weights of {base} are as they were; what was learned are adapters of rank {part.rank} beside its layers "
        f"({part.targets}){whole}, which lie in the folder adapter. From the same seeds, by the same sampler, samples "
        f"have moved by {number(drift.value, drift.stderr)} of the way to another sample of the old model "
        f"(n = {len(drift.old):,}; 0 is no change)."
    )
    lead = [first]
    for data, both in drift.losses.items():
        told = " and ".join(f"{number(v.loss, v.stderr)} {name}" for name, v in both.items())
        lead.append(f"Held-out loss on {data}: {told} (n = {both['after'].n:,}, the same times and noise).")
    if "the old data" not in drift.losses:
        lead.append(
            f"What it says of the data of {base} was not measured: they are not there, or no time was left."
        )
    return [Section("drift", "Drift", "What became of the old model", lead, _figures(run, drift, texts))]


def _figures(run: Run, drift: Drift, texts: bool) -> Sequence[tuple[str, Any]]:
    if texts:
        pairs = zip(*(run.modality.decode(x[:TEXTS]) for x in (drift.old, drift.new)), strict=True)
        words = [
            (f"seed {SEED}, number {i}: {who}", text)
            for i, both in enumerate(pairs)
            for who, text in zip(("before", "after"), both, strict=True)
        ]
        return [("", Words(words))]
    rows = torch.cat([drift.old[:SHOWN], drift.new[:SHOWN]])
    caption = f"Seed {SEED}, numbers 0 to {SHOWN - 1}: the old model above, the new one below"
    return [(caption, run.modality.show(run.modality.decode(rows), SHOWN))]


def told(drift: Drift | None) -> Mapping[str, Any]:
    """For the evaluation and the summary; nothing of a run without adapters."""
    return {} if drift is None else {"drift": drift.to_json()}
