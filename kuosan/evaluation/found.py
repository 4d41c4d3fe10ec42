"""What evaluations of every kind share: the result, and the comparisons that only need rows of features.

An evaluation of pictures, of texts, of anything, measures what its items allow and names what it leaves out.
`Found` collects both; the functions here fill it from `Sides`, the three sets of rows of one feature space.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kuosan.evaluation.base import Measurement, Metric, measure
from kuosan.evaluation.copies import Copies, Honest, Nearest, NearestDistance, nearest_table
from kuosan.evaluation.frechet import FrechetDistance, FrechetInfinity
from kuosan.evaluation.kernel import GaussianKernelDistance, KernelDistance
from kuosan.evaluation.neighbours import Coverage, Density, Precision, Recall
from kuosan.evaluation.recognition import ClassAccuracy, ClassFrequency, accuracy
from kuosan.evaluation.two_sample import ClassifierTwoSample, SlicedWasserstein
from kuosan.evaluation.variety import Pairwise, PairwiseBetween, PairwiseWithin, Vendi

FEWEST_ROWS = 10  # below this, a distance between sets says nothing even beside its floor
FEWEST_JUDGED = 10  # held-out items for the ceiling of a classifier


@dataclass(frozen=True)
class Evaluation:
    """The measurements by name, the most suspicious samples, what was left out and why, the spaces used."""

    metrics: Mapping[str, Measurement]
    nearest: tuple[Nearest, ...]
    left_out: Mapping[str, str]
    spaces: Mapping[str, Mapping[str, Any]]
    counts: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "metrics": {name: m.to_json() for name, m in self.metrics.items()},
            "nearest": [row.to_json() for row in self.nearest],
            "left_out": dict(self.left_out),
            "spaces": {name: dict(about) for name, about in self.spaces.items()},
            "counts": dict(self.counts),
        }

    def write(self, folder: Path) -> None:
        """evaluation.json in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_json(), indent=2, allow_nan=False)
        (folder / "evaluation.json").write_text(text + "\n", encoding="utf-8")


class Sides(NamedTuple):
    """Features of the samples, of the reference and of the floor's pool; `note` says how these were made."""

    samples: Float[Tensor, "n d"]
    reference: Float[Tensor, "m d"]
    pool: Float[Tensor, "r d"]
    note: str

    @property
    def fewest(self) -> int:
        return min(len(self.samples), len(self.reference), len(self.pool))


@dataclass(frozen=True)
class Found:
    """What an evaluation has found so far; random choices come from `generator` alone."""

    generator: torch.Generator
    metrics: dict[str, Measurement] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    spaces: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def attempt(self, name: str, make: Callable[[], Measurement]) -> None:
        """Keeps a measurement under `name`, or the reason why there is none."""
        try:
            self.metrics[name] = replace(make(), name=name)
        except ValueError as error:
            self.left_out[name] = str(error)

    def compare(self, name: str, metric: Metric, sides: Sides, space: str) -> None:
        """A metric of feature rows beside its floor."""
        if sides.fewest < FEWEST_ROWS:
            self.left_out[name] = (
                f"needs {FEWEST_ROWS} each of samples, reference and spare real items; the fewest are {sides.fewest}"
            )
            return
        rows, options = sides[:3], {"generator": self.generator, "space": space, "note": sides.note}
        self.attempt(name, lambda: measure(metric, *rows, **options))  # type: ignore[arg-type]


def distances(found: Found, space: str, sides: Sides) -> None:
    """fd, kd, kd_rbf, swd, c2st and, where n allows, fd_inf, each named with its space."""
    of_laws = (
        FrechetDistance(),
        KernelDistance(),
        GaussianKernelDistance(),
        SlicedWasserstein(),
        ClassifierTwoSample(),
    )
    for metric in of_laws:
        found.compare(f"{metric.name}_{space}", metric, sides, space)
    dimensions = sides.samples.shape[1]
    infinity = FrechetInfinity()
    name = f"{infinity.name}_{space}"
    needed = len(infinity.parts) * dimensions
    if sides.fewest >= needed:
        found.compare(name, infinity, sides, space)
    else:
        found.left_out[name] = (
            f"needs {needed} items on every side to extrapolate in {dimensions} dimensions, got {sides.fewest}"
        )


def neighbours(found: Found, space: str, sides: Sides) -> None:
    """precision, recall, density and coverage; vendi."""
    for metric in (Precision(), Recall(), Density(), Coverage(), Vendi()):
        found.compare(metric.name, metric, sides, space)


def apart(
    found: Found,
    space: str,
    sides: Sides,
    labels: Int[Tensor, " n"] | None,
    reference_labels: Int[Tensor, " m"] | None,
) -> None:
    """pairwise; where all conditions are known, pairwise_within and pairwise_between instead."""
    if labels is None or reference_labels is None or sides.fewest < FEWEST_ROWS:
        found.compare(Pairwise.name, Pairwise(), sides, space)
        return
    needs = {"labels": labels.cpu().long(), "reference_labels": reference_labels.cpu().long()}
    for metric in (PairwiseWithin(), PairwiseBetween()):
        found.attempt(metric.name, partial(metric, sides.samples, sides.reference, space=space, **needs))


def frequencies(found: Found, scores: Sides, space: str) -> None:
    """class_frequency, of the class scores of samples that were asked for nothing."""
    found.compare(ClassFrequency.name, ClassFrequency(), scores, space)


def recognised(
    found: Found,
    space: str,
    classes: Sequence[int],
    scores: Callable[[Tensor], Tensor],
    heldout_scores: Callable[[Tensor], Tensor],
    labels: Int[Tensor, " n"] | None,
    heldout_labels: Int[Tensor, " v"] | None,
) -> None:
    """class_accuracy by a classifier of `classes` (none: there is no classifier).

    `scores` and `heldout_scores` map a mask of the samples, or of the held-out items, to their class scores in
    the order of `classes`. A classifier that recognises held-out items no better than one who always names the
    commonest class is no judge.
    """
    name = ClassAccuracy.name
    if labels is None or heldout_labels is None:
        found.left_out[name] = "no classes: neither asked of the samples nor known of the held-out items"
        return
    if not classes:
        found.left_out[name] = "no classifier: too few labelled training items, or one class only"
        return
    known = torch.tensor(list(classes))
    asked, true = labels.cpu().long(), heldout_labels.cpu().long()
    mine, theirs = torch.isin(asked, known), torch.isin(true, known)
    if not bool(mine.any()) or int(theirs.sum()) < FEWEST_JUDGED:
        found.left_out[name] = (
            f"needs samples and {FEWEST_JUDGED} held-out items of a class that training has: "
            f"{int(mine.sum())} and {int(theirs.sum())}"
        )
        return
    rows, real = scores(mine), heldout_scores(theirs)
    needs = {
        "labels": torch.searchsorted(known, asked[mine]),
        "reference_labels": torch.searchsorted(known, true[theirs]),
    }
    knows = accuracy(real, needs["reference_labels"])
    guess = float(torch.bincount(needs["reference_labels"]).max()) / len(real)
    if knows <= guess:
        found.left_out[name] = (
            f"the classifier that judges it recognises {knows:.0%} of {len(real)} held-out items, and the commonest "
            f"class is {guess:.0%} of them: measuring needs more time"
        )
        return
    found.attempt(name, lambda: ClassAccuracy()(rows, real, space=space, **needs))


def copied(
    found: Found,
    space: str,
    index: Int[Tensor, " n"],
    distance: Float[Tensor, " n"],
    honest: Honest,
    note: str,
) -> tuple[Nearest, ...]:
    """copies and nearest_distance from what a search in training found, and the table of the nearest."""
    for metric in (Copies(), NearestDistance()):
        name, call = metric.name, partial(metric, distance[:, None], honest.distances, space=space)
        found.attempt(name, call)
        if name in found.metrics:
            words = f"{found.metrics[name].note}; {note}; honest: {honest.source}"
            found.metrics[name] = replace(found.metrics[name], note=words)
    try:
        return nearest_table(index, distance, honest.distances)
    except ValueError as error:
        found.left_out["nearest"] = str(error)
        return ()
