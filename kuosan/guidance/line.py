"""The line that guidance walks: from a reference through a model and beyond.

    E[x | x_t] = reference + w · (model − reference)                                           (1)

As x and ε are tied by x_t = α x + σ ε, eq. 1 is the same line for every output of a network. For tokens the line is
drawn through log-probabilities, position by position (Nisonoff et al. 2024; Schiff et al. 2025):

    log q(x | x_t) = reference + w · (model − reference) + constant                            (2)
"""

from __future__ import annotations

from functools import singledispatch

import torch

from kuosan.core.posteriors import Categorical, Joint, Point, Posterior
from kuosan.core.shapes import Time, at


@singledispatch
def line(model: Posterior, reference: Posterior, w: Time) -> Posterior:
    """Eq. 1 or 2 between two posteriors of one kind: a mean alone (`Point`), probabilities, or a joint state's parts of
    either."""
    # `lerp` returns its very ends at 0 and 1: an example with w = 1 keeps its bits beside any neighbours.
    return Point(torch.lerp(reference.mean, model.mean, at(w, model.mean)))


@line.register
def _(model: Categorical, reference: Posterior, w: Time) -> Posterior:
    assert isinstance(reference, Categorical)
    a, b, w = model.logits, reference.logits, at(w, model.logits)
    # -inf - -inf has no value: what either side calls impossible stays impossible, unless it has no say.
    impossible = (a.isneginf() & (w != 0)) | (b.isneginf() & (w != 1))
    a, b = (x.masked_fill(x.isneginf(), 0) for x in (a, b))
    return Categorical(torch.lerp(b, a, w).masked_fill(impossible, -torch.inf))


@line.register
def _(model: Joint, reference: Posterior, w: Time) -> Posterior:
    assert isinstance(reference, Joint)
    return Joint({name: line(part, reference.parts[name], w) for name, part in model.parts.items()})
