"""What a modality measures of its own, beside what holds for every dense state (`evaluation.evaluate`).

A line in `MEASURES` is a function of decoded items: it fills a `Found` with measurements, each with its count, its
error and its floor, and says what it left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kuosan.evaluation.audio import evaluate_sounds
from kuosan.evaluation.conditions import Asked, recognise
from kuosan.evaluation.copies import Nearest
from kuosan.evaluation.encoder import Encoder, load_encoder
from kuosan.evaluation.evaluate import Evaluation
from kuosan.evaluation.found import Found
from kuosan.evaluation.medical import evaluate_scans
from kuosan.evaluation.motion import clips_of, measure_motions
from kuosan.evaluation.roles import roles
from kuosan.evaluation.video import evaluate_clips
from kuosan.modalities import MedicalModality, Modality, MotionModality
from kuosan.recipes import rolls, shapes

FEWEST, MOST_NUMBERS = 100, 2**27  # of each side in single precision: 512 MiB


@dataclass(frozen=True)
class Items:
    """What is measured, decoded: ``samples``, the real items of the ``reference`` and other real ones for the
    ``floor``, no item being in both; ``note`` says how these were made. ``training`` and ``heldout`` are the states of
    all of either side, ``groups`` says which whole each is of (`Split.groups`), and ``encoder`` is the space that was
    learned of this data, where there is one; ``others`` is the folder of a network of others, where one was given."""

    modality: Modality[Any]
    samples: Sequence[Any]
    reference: Sequence[Any]
    floor: Sequence[Any]
    note: str
    training: Tensor
    heldout: Tensor
    groups: tuple[Sequence[bytes], Sequence[bytes]] = ((), ())
    encoder: Encoder | None = None
    others: Path | None = None

    def states(self) -> tuple[Tensor, Tensor, Tensor]:
        """Samples, reference and floor as they are written: clipped, and rounded to the depth of the files; of large
        ones as many as `MOST_NUMBERS` allows."""
        most = max(FEWEST, MOST_NUMBERS // math.prod(self.modality.shape))
        sides = (self.samples, self.reference, self.floor)
        drawn, real, other = (self.modality.encode(x[:most]) for x in sides)
        return drawn, real, other


def _motions(found: Found, items: Items) -> None:
    modality = items.modality
    assert isinstance(modality, MotionModality)
    samples, reference, others = (
        clips_of(modality, part) for part in (items.samples, items.reference, items.floor)
    )
    measure_motions(found, samples, reference, others, items.note)


def _sounds(found: Found, items: Items) -> None:
    evaluate_sounds(found, items.samples, items.reference, items.floor, items.note, items.others)


def _clips(found: Found, items: Items) -> None:
    evaluate_clips(found, *items.states(), items.note, items.encoder)


def _scans(found: Found, items: Items) -> tuple[Nearest, ...] | None:
    assert isinstance(items.modality, MedicalModality)
    return evaluate_scans(
        found, items.modality, items.samples, items.reference, items.floor, items.training, items.heldout, items.groups,
        items.note,
    )  # fmt: skip


MEASURES: dict[str, Callable[[Found, Items], tuple[Nearest, ...] | None]] = {
    "audio": _sounds,
    "medical": _scans,
    "motion": _motions,
    "points": shapes.measure,
    "roll": rolls.measure,
    "shape": shapes.measure,
    "video": _clips,
}
"""By modality; what they return is a table of the nearest that takes the place of the usual one."""


def with_own(
    found: Evaluation,
    modality: Modality[Any],
    samples: Tensor,
    train: Tensor,
    val: Tensor,
    seed: int,
    out: Path | None = None,
    *,
    groups: tuple[Sequence[bytes], ...] = ((), ()),
    others: Path | None = None,
    writes: Modality[Any] | None = None,
) -> Evaluation:
    """An evaluation with what the modality measures of its own, if anything; ``out`` is where its encoder lies,
    ``others`` that of somebody else, and ``writes`` is what decodes the samples, where it is not what real items are
    decoded by."""
    measured = MEASURES.get(modality.name)
    if measured is None:
        return found
    generator = torch.Generator().manual_seed(seed)
    parts = roles(len(train), len(val), len(samples), generator)
    more = Found(generator)
    reference, most = torch.cat([val, train[parts.borrowed]]), modality.most_decoded
    drawn = (writes or modality).decode(samples[:most])
    real, other = (modality.decode(x[:most]) for x in (reference, train[parts.pool]))
    both = (groups[0], groups[1])
    encoder = load_encoder(out) if out is not None and "encoder" in found.spaces else None
    table = measured(more, Items(modality, drawn, real, other, parts.note, train, val, both, encoder, others))
    both_found = joined(found, more)
    return both_found if table is None else replace(both_found, nearest=table)


def with_conditions(
    found: Evaluation,
    conditions: Sequence[Asked],
    samples: Tensor,
    train: Tensor,
    val: Tensor,
    axes: Sequence[str],
    seed: int,
    seconds: float,
) -> Evaluation:
    """An evaluation with the accuracy of ``conditions`` that it did not judge, each by a classifier of its own; all are
    trained in so many ``seconds``."""
    more = Found(torch.Generator().manual_seed(seed))
    for one in conditions:
        recognise(more, one, samples, train, val, axes=axes, seed=seed, seconds=seconds / len(conditions))
    return joined(found, more)


def joined(found: Evaluation, more: Found) -> Evaluation:
    """An evaluation with more in it."""
    return replace(
        found,
        metrics={**found.metrics, **more.metrics},
        left_out={**found.left_out, **more.left_out},
        spaces={**found.spaces, **more.spaces},
    )
