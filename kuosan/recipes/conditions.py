"""Under which conditions samples are drawn: what was asked for, the rest as often as in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.modalities.captions import CAPTION, Captions, plain
from kuosan.modalities.dataset import resolve
from kuosan.recipes.facts import Facts

GOLDEN = 0x9E3779B97F4A7C15  # the golden ratio's fraction of 2^64

Where = Mapping[str, str | Sequence[str]]
"""Conditions by name; of captions also several, which take turns: sample number i has number i modulo their count."""


def texts_of(where: Where) -> list[str]:
    """The captions that are asked for."""
    asked = where.get(CAPTION, ())
    return [asked] if isinstance(asked, str) else [str(text) for text in asked]


def asked_of(facts: Facts, captions: Captions | None, numbers: range, where: Where) -> dict[str, Tensor]:
    """What ``where`` names, for samples of these numbers.

    Raises:
        UserError: no such column or value.
    """
    out: dict[str, Tensor] = {}
    for name, value in where.items():
        if name == CAPTION and captions is not None and (texts := texts_of(where)):
            out[name] = captions.rows(texts)[torch.tensor(numbers) % len(texts)]
        else:
            index = resolve(facts.columns, facts.class_names, name, str(value))
            out[name] = torch.full((len(numbers),), index, dtype=torch.int64)
    return out


def conditions_of(
    facts: Facts, seed: int, numbers: range, where: Where, captions: Captions | None = None
) -> dict[str, Tensor]:
    """The conditions of samples of these numbers: what ``where`` says, the rest as often as in training.

    Multiples of the golden ratio fill [0, 1) more evenly than chance (Weyl 1916), so that any run of numbers has
    its share of every value to within a few samples: ten digits are about the ten digits.

    Raises:
        UserError: no such column or value.
    """
    asked = asked_of(facts, captions, numbers, where)
    if not facts.null:
        return {}
    out = facts.hidden(len(numbers)) | asked
    turns = torch.tensor([(i * GOLDEN % 2**64) / 2**64 for i in numbers], dtype=torch.float64)
    u = (turns + Seeds.of(seed, 1).fold("condition").uniforms()) % 1
    texts = texts_of(where) if captions is not None else []
    for turn in range(max(1, len(texts))):
        places = torch.tensor([k for k, i in enumerate(numbers) if i % max(1, len(texts)) == turn])
        if not len(places):
            continue
        rows = _rows(facts, captions, texts[turn] if texts else None)
        fixed = {k: int(v[0]) for k, v in asked.items() if k in facts.columns}
        names = list(facts.columns)
        fits = [row for row in rows if all(row[0][names.index(k)] == v for k, v in fixed.items())]
        if not fits:  # a combination that training never saw: the other conditions are hidden
            continue
        counts = torch.tensor([n for *_, n in fits], dtype=torch.float64).cumsum(0)
        chosen = torch.searchsorted(counts, u[places] * counts[-1], right=True).clamp_max(len(fits) - 1)
        drawn = [fits[k] for k in chosen.tolist()]
        for column, name in enumerate(names):
            out[name][places] = torch.tensor([row[column] for row, *_ in drawn], dtype=torch.int64)
        if captions is not None and not texts:
            out[CAPTION][places] = captions.rows([text for _, text, _ in drawn])
    return out


def _rows(facts: Facts, captions: Captions | None, text: str | None) -> list[tuple[Sequence[int], str, int]]:
    """What training has, how often: places of categorical conditions with a caption, of one ``text`` where it is
    given."""
    if captions is None:
        return [(row, "", n) for row, n in facts.frequencies]
    return [(row, one, 1) for one, row in captions.items if text is None or one == plain(text)]
