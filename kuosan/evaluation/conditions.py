"""Is every condition that was asked for recognised, where data have several of them: an action *and* a direction?

`evaluate_samples` judges one condition, with the classifier whose features it measures in. Each other one gets a small
classifier of its own here (`encoder_training`), and its accuracy stands beside that on held-out items, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from jaxtyping import Float, Int
from torch import Tensor

from kuosan.evaluation.encoder_training import train_encoder
from kuosan.evaluation.found import Found, recognised
from kuosan.evaluation.recognition import ClassAccuracy

NAME = "accuracy"


@dataclass(frozen=True)
class Asked:
    """One condition: what was asked of the samples, and what is true of the real items."""

    name: str
    samples: Int[Tensor, " n"]
    train: Int[Tensor, " t"]
    val: Int[Tensor, " v"]

    def known(self, values: int) -> bool:
        """Whether it is known of every item, as one of so many values."""
        return all(bool((labels < values).all()) for labels in (self.samples, self.train, self.val))


def recognise(
    found: Found,
    condition: Asked,
    samples: Float[Tensor, "n c *sides"],
    train: Float[Tensor, "t c *sides"],
    val: Float[Tensor, "v c *sides"],
    *,
    axes: Sequence[str],
    seed: int = 0,
    seconds: float = 10.0,
) -> None:
    """Adds accuracy_CONDITION, by a classifier that is trained for `seconds` of two slow cores."""
    name = f"{NAME}_{condition.name}"
    if len(condition.train.unique()) < 2:
        found.left_out[name] = "the training items have one value of it alone"
        return
    encoder = train_encoder(train, condition.train, axes=axes, seed=seed, seconds=seconds)
    inner = Found(found.generator)

    def scores(x: Tensor, mask: Tensor) -> Tensor:
        return encoder.logits(x[mask])

    recognised(
        inner, condition.name, encoder.classes, partial(scores, samples), partial(scores, val), condition.samples,
        condition.val,
    )  # fmt: skip
    if (measured := inner.metrics.get(ClassAccuracy.name)) is not None:
        found.metrics[name] = replace(measured, name=name)
    found.left_out.update((name, reason) for reason in inner.left_out.values())
