"""Do class-conditional samples look like the class that was asked for?

A classifier that never saw the held-out items is shown the samples; the share it recognises as the class
asked for is compared with the share of real held-out items that it recognises: its ceiling. The ceiling is
weighted to the classes asked for, as a classifier may find some classes harder than others.

    accuracy = mean 1[argmax_k s_ik = asked_i]          ceiling = Σ_c p_asked(c) accuracy_heldout(c)

The plain argmax of the scores decides; no temperature, no threshold. A value *above* the ceiling says that
samples are more typical than real items, the usual sign of strong guidance or of lost diversity. Compare
"classification accuracy score" (Ravuri & Vinyals 2019), which trains the other way round.

Left to itself, under no condition, does a model make every class as often as the data have it? The shares of classes
that the classifier sees among such samples and among real items differ by their total variation,

    TV = ½ Σ_c |p_c - q_c|,                                                                        (1)

the share of samples that would have to be of another class. As it is positive for any two finite sets, it stands beside
that of as many real items; what the classifier mistakes, it mistakes on both sides.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kuosan.evaluation.base import Better, Estimate, Metric
from kuosan.evaluation.estimates import share_stderr


def accuracy(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Share of rows whose highest score is their label's."""
    if len(logits) != len(labels):
        raise ValueError(f"class_accuracy: {len(logits)} rows of scores, but {len(labels)} labels")
    return float((logits.argmax(1) == labels).double().mean())


def class_shares(logits: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """How often each class is seen."""
    return torch.bincount(logits.argmax(1), minlength=logits.shape[1]).double() / len(logits)


class ClassFrequency(Metric):
    """Total variation of the classes that are seen among samples and among real items, eq. 1; rows are scores."""

    name: ClassVar[str] = "class_frequency"
    better: ClassVar[Better] = "lower"
    needs: ClassVar[tuple[str, ...]] = ("logits",)
    notices: ClassVar[tuple[str, ...]] = ("dropped modes",)

    def value(self, samples: Float[Tensor, "n k"], reference: Float[Tensor, "m k"], **needs: Tensor) -> float:
        return 0.5 * float((class_shares(samples) - class_shares(reference)).abs().sum())

    def estimate(
        self, samples: Float[Tensor, "n k"], reference: Float[Tensor, "m k"], **needs: Tensor
    ) -> Estimate:
        # By the delta method, TV moves by half of the sign of its item's class.
        signs = (class_shares(samples) - class_shares(reference)).sign()
        moves = [signs[rows.argmax(1)].var() / (4 * len(rows)) for rows in (samples, reference)]
        value = self.value(samples, reference)
        stderr = max(math.sqrt(float(sum(moves))), share_stderr(value, len(samples)))
        most = int((class_shares(samples) - class_shares(reference)).abs().argmax())
        a, b = (float(class_shares(rows)[most]) for rows in (samples, reference))
        note = f"the class that is farthest off: {a:.1%} of samples, {b:.1%} of real items"
        return Estimate(value, stderr, note=note)


class ClassAccuracy(Metric):
    """Share of samples recognised as the class asked for; rows are class scores, the floor is the ceiling."""

    name: ClassVar[str] = "class_accuracy"
    better: ClassVar[Better] = "higher"
    needs: ClassVar[tuple[str, ...]] = ("logits", "labels")
    notices: ClassVar[tuple[str, ...]] = ("wrong class",)

    def value(self, samples: Float[Tensor, "n k"], reference: Float[Tensor, "m k"], **needs: Tensor) -> float:
        return accuracy(samples, needs["labels"])

    def estimate(
        self, samples: Float[Tensor, "n k"], reference: Float[Tensor, "m k"], **needs: Tensor
    ) -> Estimate:
        asked, true = needs["labels"], needs["reference_labels"]
        value = accuracy(samples, asked)
        overall = accuracy(reference, true)
        ceiling, variance = 0.0, 0.0
        for label, count in zip(*torch.unique(asked, return_counts=True), strict=True):
            weight, here = int(count) / len(asked), true == label
            share = accuracy(reference[here], true[here]) if bool(here.any()) else overall
            ceiling += weight * share
            variance += (weight * share_stderr(share, int(here.sum()) or len(true))) ** 2
        return Estimate(
            value,
            share_stderr(value, len(samples)),
            ceiling,
            math.sqrt(variance),
            f"ceiling: {len(true)} real held-out items, weighted to the classes asked for",
        )
