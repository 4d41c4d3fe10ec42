"""What a modality measures of its own, beside what holds for every dense state (`evaluation.evaluate`).

A line in `MEASURES` is a function of decoded items: it fills a `Found` with measurements, each with its count, its
error and its floor, and says what it left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kuosan.evaluation.evaluate import Evaluation
from kuosan.evaluation.found import Found
from kuosan.evaluation.roles import roles
from kuosan.modalities import Modality
from kuosan.recipes import shapes

MOST = 1000  # items of each side that are decoded


@dataclass(frozen=True)
class Items:
    """What is measured, decoded: ``samples``, the real items of the ``reference`` and other real ones for the
    ``floor``, no item being in both; ``note`` says how these were made. ``training`` and ``heldout`` are the states of
    all items of the two sides."""

    modality: Modality[Any]
    samples: Sequence[Any]
    reference: Sequence[Any]
    floor: Sequence[Any]
    note: str
    training: Tensor
    heldout: Tensor


MEASURES: dict[str, Callable[[Found, Items], None]] = {"shape": shapes.measure}
"""By modality."""


def with_own(
    found: Evaluation, modality: Modality[Any], samples: Tensor, train: Tensor, val: Tensor, seed: int
) -> Evaluation:
    """An evaluation with what the modality measures of its own, if anything."""
    measured = MEASURES.get(modality.name)
    if measured is None:
        return found
    generator = torch.Generator().manual_seed(seed)
    parts = roles(len(train), len(val), len(samples), generator)
    more = Found(generator)
    reference = torch.cat([val, train[parts.borrowed]])[:MOST]
    drawn, real, other = (modality.decode(x) for x in (samples[:MOST], reference, train[parts.pool][:MOST]))
    measured(more, Items(modality, drawn, real, other, parts.note, train, val))
    return replace(
        found,
        metrics={**found.metrics, **more.metrics},
        left_out={**found.left_out, **more.left_out},
        spaces={**found.spaces, **more.spaces},
    )
