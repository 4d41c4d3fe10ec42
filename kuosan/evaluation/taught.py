"""Are samples good enough to learn from? A classifier that samples taught is tried on real held-out items.

    tstr_accuracy     accuracy on held-out items of a classifier trained on samples with the classes asked for; its
                      ceiling is that of one trained in the same way on as many real training items

("Train on synthetic, test on real", Esteban et al. 2017; Ravuri & Vinyals 2019 call it the classification accuracy
score.) Unlike `recognition` this notices what samples lack: classes drawn too much alike teach little. Both classifiers
are those of `encoder_training`, with the same seed, steps and count of items; the error is that of the held-out items,
and does not contain how lucky a training was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.encoder import Encoder
from kuosan.evaluation.encoder_training import train_encoder
from kuosan.evaluation.found import FEWEST_JUDGED, Found
from kuosan.evaluation.recognition import ClassAccuracy

NAME = "tstr_accuracy"
FEWEST = 64  # samples, and real items, to teach by
MISSING = -1e30  # the score of a class that a classifier was never shown


def taught_by_samples(
    found: Found,
    samples: Float[Tensor, "n c *sides"],
    labels: Int[Tensor, " n"] | None,
    train: Float[Tensor, "t c *sides"],
    train_labels: Int[Tensor, " t"] | None,
    val: Float[Tensor, "v c *sides"],
    val_labels: Int[Tensor, " v"] | None,
    *,
    axes: Sequence[str],
    seed: int = 0,
    seconds: float = 15.0,
    device: torch.device | str = "cpu",
) -> None:
    """tstr_accuracy into ``found``, or why not; ``seconds`` are for both classifiers."""
    if labels is None or train_labels is None or val_labels is None:
        found.left_out[NAME] = "no classes: asked of the samples, and known of training and held-out items"
        return
    labels, train_labels, val_labels = (x.cpu().long() for x in (labels, train_labels, val_labels))
    n = min(len(samples), len(train))
    order = torch.randperm(len(train), generator=found.generator)[:n]
    sets = ((samples[:n], labels[:n]), (train[order], train_labels[order]))
    classes = torch.cat([labels, train_labels, val_labels]).unique()
    fewest = min(len(known.unique()) for _, known in sets)
    if n < FEWEST or len(val) < FEWEST_JUDGED or fewest < 2:
        found.left_out[NAME] = (
            f"needs {FEWEST} samples and training items of two classes, and {FEWEST_JUDGED} held-out items: there are "
            f"{n} of {fewest} and {len(val)}"
        )
        return

    def measured() -> Measurement:
        synthetic, real = (
            _scores(
                train_encoder(x, known, axes=axes, seed=seed, seconds=seconds / 2, device=device),
                val,
                classes,
            )
            for x, known in sets
        )
        truth = torch.searchsorted(classes, val_labels)
        needs = {"labels": truth, "reference_labels": truth}
        out = ClassAccuracy()(synthetic, real, space="classifier", **needs)
        always = float(torch.bincount(truth).max()) / len(truth)
        note = (
            f"taught by {n} samples, tried on {len(val)} held-out items; ceiling: taught by {n} real training items; "
            f"always the most common class: {always:.3f}"
        )
        return replace(out, note=note)

    found.attempt(NAME, measured)


def _scores(encoder: Encoder, x: Tensor, classes: Int[Tensor, " k"]) -> Float[Tensor, "n k"]:
    """In the order of all classes."""
    out = torch.full((len(x), len(classes)), MISSING)
    out[:, torch.searchsorted(classes, torch.tensor(encoder.classes))] = encoder.logits(x)
    return out
