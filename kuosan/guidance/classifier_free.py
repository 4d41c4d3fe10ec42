"""Classifier-free guidance (Ho & Salimans 2022).

A denoiser that was trained with its conditions dropped now and then knows two posteriors: with the
conditions, and with every one of them at its null index, the *reference*. Guidance walks from the second
through the first and beyond,

    E[x | x_t] = reference + w · (model − reference)                                           (1)

so that w = 1 is no guidance, w = 0 ignores the conditions and w > 1 exaggerates what they change. (Papers
that write (1 + γ) model − γ reference have γ = w − 1.) As x and ε are tied by x_t = α x + σ ε, eq. 1 is the
same line for every output of a network. For tokens the line is drawn through log-probabilities, position by
position (Nisonoff et al. 2024; Schiff et al. 2025):

    log q(x | x_t) = reference + w · (model − reference) + constant                            (2)

The weight is a control sequence: guidance in an interval of noise (Kynkäänniemi et al. 2024) is
`ClassifierFree(denoiser, Interval(0.2, 0.7, 3.0), null)`, and costs nothing outside the interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import ClassVar

import torch
from torch import Tensor

from kuosan.core.curves import Curve, curve
from kuosan.core.posteriors import Categorical, Joint, Point, Posterior
from kuosan.core.shapes import State, Time, at, is_shared, map_state, repeat_time
from kuosan.denoisers.base import Denoiser
from kuosan.processes.base import Process


class ClassifierFree(Denoiser):
    """Eq. 1 and 2 around any denoiser.

    One plain call of the wrapped denoiser where w is 1 (its posterior comes back untouched), where w is 0 and
    where no conditions are given; elsewhere one call of a doubled batch.

    Args:
        denoiser: any denoiser whose conditions were dropped to null in training.
        w: the guidance weight, a number or a curve of it along time.
        null: condition column → the index that stands for "none given".
    """

    needs: ClassVar[type[Process]] = Process  # type: ignore[type-abstract]
    """The kind of process that it can guide: every one."""

    def __init__(self, denoiser: Denoiser, w: float | Curve, null: Mapping[str, int]):
        super().__init__()
        self.denoiser, self.w, self.null = denoiser, curve(w), dict(null)
        self.process = denoiser.process
        self._twice: dict[int, tuple[Time, Time]] = {}  # a time by identity, and the doubled batch's

    def along(self, times: tuple[Time, ...], like: State) -> Denoiser:
        twice = tuple(repeat_time(t, 2) for t in times)
        ahead = ClassifierFree(self.denoiser.along(times + twice, like), self.w, self.null)
        ahead._twice = {id(t): pair for t, pair in zip(times, zip(times, twice, strict=True), strict=True)}
        return ahead

    def forward(self, x_t: State, t: Time, **cond: Tensor) -> Posterior:
        """The guided q(x | x_t): the mean alone (`Point`), probabilities, or a joint state's parts of either.

        Raises:
            ValueError: a condition without a null index.
        """
        w = self.w(t[:1] if is_shared(t) else t)
        # A weight that is being learned keeps its gradient, which neither shortcut has.
        fixed = not w.requires_grad
        if not cond or (fixed and bool((w == 1).all())):
            return self.denoiser(x_t, t, **cond)
        nothing = {name: self._nothing(name, c) for name, c in cond.items()}
        if fixed and bool((w == 0).all()):
            return self.denoiser(x_t, t, **nothing)
        both = {name: torch.cat([c, nothing[name]]) for name, c in cond.items()}
        twice = map_state(lambda x: torch.cat([x, x]), x_t)
        _, doubled = self._twice.get(id(t)) or (t, repeat_time(t, 2))
        return _guided(self.denoiser(twice, doubled, **both), w)

    def _nothing(self, name: str, c: Tensor) -> Tensor:
        if name not in self.null:
            known = ", ".join(sorted(self.null)) or "no condition at all"
            raise ValueError(f"guidance needs the null index of condition {name!r}: it was given {known}")
        return torch.full_like(c, self.null[name])


@singledispatch
def _guided(q: Posterior, w: Time) -> Posterior:
    """The guided posterior from one of a doubled batch: first with the conditions, then without."""
    model, reference = q.mean.chunk(2)
    # `lerp` returns its very ends at 0 and 1: an example with w = 1 keeps its bits beside any neighbours.
    return Point(torch.lerp(reference, model, at(w, model)))


@_guided.register
def _(q: Categorical, w: Time) -> Posterior:
    model, reference = q.logits.chunk(2)
    w = at(w, model)
    # -inf - -inf has no value: what either side calls impossible stays impossible, unless it has no say.
    impossible = (model.isneginf() & (w != 0)) | (reference.isneginf() & (w != 1))
    model, reference = (x.masked_fill(x.isneginf(), 0) for x in (model, reference))
    return Categorical(torch.lerp(reference, model, w).masked_fill(impossible, -torch.inf))


@_guided.register
def _(q: Joint, w: Time) -> Posterior:
    return Joint({name: _guided(part, w) for name, part in q.parts.items()})
