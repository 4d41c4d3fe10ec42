"""How surprised a model is by items that it has not seen, measured in every way that it allows.

    bits_bound        the evidence bound in continuous time, with its three terms
    bits_train        the same of training items: what is lower there was learned by heart
    bits_K_steps      the bound of ancestral sampling in K steps with the optimal reverse variances, beside the two
                      hand-made ones (Ho et al. 2020) with the same noise and decoder
    bits_flow         the probability-flow ODE, through the dequantisation that suits the model

in bits per dimension where data have levels, else ``nll_…`` in nats per dimension of a density. Whatever is fitted for
this is fitted to one half of the held-out items and measured on the other, see `fold`.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.likelihood.bound import Terms, saving
from kuosan.evaluation.likelihood.effort import Effort
from kuosan.evaluation.likelihood.flow import Flow
from kuosan.evaluation.likelihood.fold import Fit, Fold, Rounds, shuffled
from kuosan.training.data import Items

TERMS = ("prior", "diffusion", "reconstruction")


@dataclass(frozen=True)
class Likelihood:
    """The measurements, and what stands behind them.

    ``terms`` are prior, diffusion and reconstruction per dimension with their standard errors; ``steps`` has for each
    number of steps and each variance its value, what the optimal variance gains over it on the same noise, and both
    standard errors; ``examples`` a column per estimate, per dimension, by the number of the held-out item (NaN where
    it was not asked for).
    """

    metrics: Mapping[str, Measurement]
    terms: Mapping[str, tuple[float, float]]
    steps: Mapping[int, Mapping[str, Mapping[str, float]]]
    examples: Mapping[str, Float[Tensor, " n"]] = field(repr=False)
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        terms = {k: {"value": v, "stderr": e} for k, (v, e) in self.terms.items()}
        steps = {str(k): {arm: dict(found) for arm, found in arms.items()} for k, arms in self.steps.items()}
        return {"terms": terms, "steps": steps, **self.about}


def measure_likelihood(
    fit: Fit,
    train: Items,
    held_out: Items,
    *,
    level: float | None,
    effort: Effort,
    device: torch.device,
    seed: int = 0,
    tell: Callable[[str], None] = lambda what: None,
) -> Likelihood:
    """See the module.

    Args:
        fit: gives the denoiser with the reverse variances that are optimal for some items.
        held_out: two or more.
        level: distance of two levels of the data in [-1, 1]; None is a density.
        tell: is told what goes on.

    Raises:
        UserError: a model or data without a likelihood, or a tolerance that cannot be met.
    """
    rounds = Rounds(device, seed, tell)
    chosen = shuffled(held_out, effort.n, seed)
    folds = [Fold.of(chosen, side, fit, level, effort, rounds) for side in (0, 1)]
    dims = held_out.batch(torch.arange(1))[0].numel()
    unit = dims * (1.0 if level is None else math.log(2))

    each = [fold.bound() for fold in folds]
    terms = Terms.join(each)
    parts = {name: [getattr(t, name) / unit for t in each] for name in TERMS}
    columns = {"bound": [t.total / unit for t in each]}
    notes = {"bound": f"in continuous time, {effort.count} calls an item"}
    if effort.train:
        columns["train"] = [
            folds[0].bound("bound of training items", shuffled(train, effort.train, seed)).total / unit
        ]
        notes["train"] = "the bound of items that the model was trained on"
    steps: dict[int, dict[str, dict[str, float]]] = {}
    for k in effort.steps:
        arms = [{name: nats / unit for name, nats in fold.steps(k).items()} for fold in folds]
        columns[f"{k}_steps"] = [a["optimal"] for a in arms]
        notes[f"{k}_steps"] = "ancestral sampling with the optimal reverse variances"
        steps[k] = {name: _beside([a[name] for a in arms], columns[f"{k}_steps"]) for name in arms[0]}
    if effort.flow:
        flows = [fold.flow() for fold in folds]
        columns["flow"] = [f.nats / unit for f in flows]
        notes["flow"] = _flow_note(folds, Flow.join(flows), effort)
    independent, stratified = saving(terms, effort.count)
    about = {
        "unit": "nats per dimension" if level is None else "bits per dimension",
        "dimensions": dims,
        "t0": [float(fold.times.edges[0]) for fold in folds],
        "independent_times": math.sqrt(independent) / unit,
        "stratified_times": math.sqrt(stratified) / unit,
        "lzma": None if level is None else compressed(chosen, level),
    }
    return Likelihood(
        measurements(columns, notes, level),
        {name: (m["value"], m["stderr"]) for name, values in parts.items() if (m := mean_and_error(torch.cat(values)))},
        steps,
        {
            name: by_number(values, chosen.numbers, len(held_out))
            for name, values in (columns | parts).items()
            if name != "train"
        },
        about,
    )  # fmt: skip


def measurements(
    columns: Mapping[str, list[Tensor]], notes: Mapping[str, str], level: float | None
) -> dict[str, Measurement]:
    """The means of estimates, each with one value per item, per dimension, in parts."""
    prefix, space = ("nll", "density") if level is None else ("bits", "levels of the data")
    return {
        f"{prefix}_{name}": Measurement(
            name=f"{prefix}_{name}", n=sum(map(len, values)), space=space, better="lower", note=notes[name],
            **mean_and_error(torch.cat(values)),
        )
        for name, values in columns.items()
    }  # fmt: skip


def _flow_note(folds: list[Fold], flow: Flow, effort: Effort) -> str:
    kinds = dict.fromkeys(str(fold.dequantisation) for fold in folds)
    words = [
        "probability-flow ODE",
        *(kinds if folds[0].level is not None else ()),
        f"{flow.probes} random probes an item" if flow.probes else "exact trace",
        f"tolerance {effort.tolerance:g}",
        f"{flow.calls.double().mean():.0f} calls an item",
    ]
    return ", ".join(words)


def by_number(sides: list[Tensor], numbers: Tensor, count: int) -> Tensor:
    """Values of the even and of the odd ones of these items as values of all, NaN where there is none."""
    out = torch.full((count,), math.nan, dtype=torch.float64)
    for side, values in enumerate(sides):
        out[numbers[side::2][: len(values)]] = values
    return out


def compressed(items: Items, level: float) -> float:
    """Bits per dimension that LZMA takes for all items together: what needs no learning."""
    x, _ = items.batch(torch.arange(len(items)))
    whole = ((x.double() + 1) / level).round()
    raw = whole.to(torch.uint8 if 2 / level < 256 else torch.uint16).numpy().tobytes()
    return 8 * len(lzma.compress(raw, preset=9)) / x.numel()


def mean_and_error(values: Tensor) -> dict[str, float]:
    spread = float(values.std()) if len(values) > 1 else math.nan
    return {"value": float(values.mean()), "stderr": spread / math.sqrt(len(values))}


def _beside(values: list[Tensor], optimal: list[Tensor]) -> dict[str, float]:
    v, best = torch.cat(values), torch.cat(optimal)
    gain = mean_and_error(v - best)
    return {**mean_and_error(v), "gain": gain["value"], "gain_stderr": gain["stderr"]}
