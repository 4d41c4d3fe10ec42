"""Classifier-free guidance (Ho & Salimans 2022).

A denoiser that was trained with its conditions dropped now and then knows two posteriors: with the
conditions, and with every one of them at its null index, the *reference*. Guidance walks from the second
through the first and beyond,

    E[x | x_t] = reference + w · (model − reference)                                           (1)

so that w = 1 is no guidance, w = 0 ignores the conditions and w > 1 exaggerates what they change. (Papers
that write (1 + γ) model − γ reference have γ = w − 1.) `line` has the same for tokens.

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
from kuosan.core.shapes import BESIDE, GIVEN, State, Time, is_shared, map_state, repeat_time
from kuosan.denoisers.base import Denoiser
from kuosan.guidance.line import line
from kuosan.processes.base import Process


class ClassifierFree(Denoiser):
    """Eq. 1 around any denoiser.

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
        self.process, self.alone = denoiser.process, denoiser.alone
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
        if cond.keys() <= {GIVEN} or (fixed and bool((w == 1).all())):
            return self.denoiser(x_t, t, **cond)
        # What is given of the state itself is no wish: both sides know it.
        nothing = {name: c if name == GIVEN else self._nothing(name, c) for name, c in cond.items()}
        if fixed and bool((w == 0).all()):
            return self.denoiser(x_t, t, **nothing)
        both = {name: torch.cat([c, nothing[name]]) for name, c in cond.items()}
        twice = map_state(lambda x: torch.cat([x, x]), x_t)
        _, doubled = self._twice.get(id(t)) or (t, repeat_time(t, 2))
        return line(*halves(self.denoiser(twice, doubled, **both)), w)

    def _nothing(self, name: str, c: Tensor) -> Tensor:
        if name == BESIDE:
            return torch.zeros_like(c)
        if name not in self.null:
            known = ", ".join(sorted(self.null)) or "no condition at all"
            raise ValueError(f"guidance needs the null index of condition {name!r}: it was given {known}")
        return torch.full_like(c, self.null[name])


@singledispatch
def halves(q: Posterior) -> tuple[Posterior, Posterior]:
    """Of a doubled batch: with the conditions, then without."""
    model, reference = q.mean.chunk(2)
    return Point(model), Point(reference)


@halves.register
def _(q: Categorical) -> tuple[Posterior, Posterior]:
    model, reference = q.logits.chunk(2)
    return Categorical(model), Categorical(reference)


@halves.register
def _(q: Joint) -> tuple[Posterior, Posterior]:
    parts = {name: halves(part) for name, part in q.parts.items()}
    return Joint({name: p[0] for name, p in parts.items()}), Joint({name: p[1] for name, p in parts.items()})
