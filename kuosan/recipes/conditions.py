"""Under which conditions samples are drawn: what was asked for, the rest as often as in training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.modalities.dataset import resolve
from kuosan.recipes.facts import Facts

GOLDEN = 0x9E3779B97F4A7C15  # the golden ratio's fraction of 2^64


def conditions_of(facts: Facts, seed: int, numbers: range, where: Mapping[str, str]) -> dict[str, Tensor]:
    """A condition index per sample of these numbers: what ``where`` says, the rest as often as in training.

    Multiples of the golden ratio fill [0, 1) more evenly than chance (Weyl 1916), so that any run of numbers has
    its share of every value to within a few samples: ten digits are about the ten digits.

    Raises:
        UserError: no such column or value.
    """
    fixed = {k: resolve(facts.columns, facts.class_names, k, str(v)) for k, v in where.items()}
    if not facts.columns:
        return {}
    names = list(facts.columns)
    fits = [
        (row, n) for row, n in facts.frequencies if all(row[names.index(k)] == v for k, v in fixed.items())
    ]
    if not fits:  # a combination that training never saw: the other conditions are hidden
        fits = [([fixed.get(name, facts.null[name]) for name in names], 1)]
    counts = torch.tensor([n for _, n in fits], dtype=torch.float64).cumsum(0)
    turns = torch.tensor([(i * GOLDEN % 2**64) / 2**64 for i in numbers], dtype=torch.float64)
    u = (turns + Seeds.of(seed, 1).fold("condition").uniforms()) % 1
    chosen = torch.searchsorted(counts, u * counts[-1], right=True)
    rows = torch.tensor([row for row, _ in fits], dtype=torch.int64)[chosen.clamp_max(len(fits) - 1)]
    return {name: rows[:, i].contiguous() for i, name in enumerate(names)}
