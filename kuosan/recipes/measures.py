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

from kuosan.evaluation.audio import evaluate_sounds
from kuosan.evaluation.copies import Nearest
from kuosan.evaluation.evaluate import Evaluation
from kuosan.evaluation.found import Found
from kuosan.evaluation.medical import evaluate_scans
from kuosan.evaluation.roles import roles
from kuosan.modalities import MedicalModality, Modality


@dataclass(frozen=True)
class Items:
    """What is measured, decoded: ``samples``, the real items of the ``reference`` and other real ones for the
    ``floor``, no item being in both; ``note`` says how these were made. ``training`` and ``heldout`` are the states of
    all items of the two sides, and ``groups`` says which whole each is of (`Split.groups`)."""

    modality: Modality[Any]
    samples: Sequence[Any]
    reference: Sequence[Any]
    floor: Sequence[Any]
    note: str
    training: Tensor
    heldout: Tensor
    groups: tuple[Sequence[bytes], Sequence[bytes]] = ((), ())


def _sounds(found: Found, items: Items) -> None:
    evaluate_sounds(found, items.samples, items.reference, items.floor, items.note)


def _scans(found: Found, items: Items) -> tuple[Nearest, ...] | None:
    assert isinstance(items.modality, MedicalModality)
    return evaluate_scans(
        found, items.modality, items.samples, items.reference, items.floor, items.training, items.heldout, items.groups,
        items.note,
    )  # fmt: skip


MEASURES: dict[str, Callable[[Found, Items], tuple[Nearest, ...] | None]] = {
    "audio": _sounds,
    "medical": _scans,
}
"""By modality; what they return is a table of the nearest that takes the place of the usual one."""


def with_own(
    found: Evaluation,
    modality: Modality[Any],
    samples: Tensor,
    train: Tensor,
    val: Tensor,
    seed: int,
    *,
    groups: tuple[Sequence[bytes], ...] = ((), ()),
) -> Evaluation:
    """An evaluation with what the modality measures of its own, if anything."""
    measured = MEASURES.get(modality.name)
    if measured is None:
        return found
    generator = torch.Generator().manual_seed(seed)
    parts = roles(len(train), len(val), len(samples), generator)
    more = Found(generator)
    reference, most = torch.cat([val, train[parts.borrowed]]), modality.most_decoded
    drawn, real, other = (modality.decode(x[:most]) for x in (samples, reference, train[parts.pool]))
    both = (groups[0], groups[1])
    table = measured(more, Items(modality, drawn, real, other, parts.note, train, val, both))
    return replace(
        found,
        nearest=found.nearest if table is None else table,
        metrics={**found.metrics, **more.metrics},
        left_out={**found.left_out, **more.left_out},
        spaces={**found.spaces, **more.spaces},
    )
