"""What a student knows: the few times that it was distilled for, and the end of its teacher's way from each.

It is a denoiser like any other, but of those times alone. So there is one way to sample it, in as many steps as it has
times or fewer; and it has no flow, hence no encodings and no density.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kuosan.core.posteriors import Point, Posterior
from kuosan.core.shapes import State, Time
from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.evaluation.report_words import steps_in_words
from kuosan.recipes.facts import Facts

SOLVER, GRID = "redraw", "distilled"


class Ends(Denoiser):
    """A student's estimate alone: a variance that its network was trained for before says nothing of it."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.process, self.denoiser = denoiser.process, denoiser

    def along(self, times: tuple[Time, ...], like: State) -> Denoiser:
        return Ends(self.denoiser.along(times, like))

    def forward(self, x_t: State, t: Time, **cond: Tensor) -> Posterior:
        return Point(self.denoiser(x_t, t, **cond).mean)


def student_grid(facts: Facts, path: Path, steps: int) -> Float[Tensor, " n+1"]:
    """The student's times for so many steps, evenly chosen where it has more, and then 0.

    Raises:
        UserError: it knows fewer.
    """
    times, teacher = facts.recipe.distil.times, facts.recipe.init
    if steps > len(times):
        most = steps_in_words(len(times))
        raise UserError(
            f"{path} is a student of {most} and knows no more: leave --steps away, sample its teacher "
            f"({teacher}) with --steps {steps}, or distil that one again with --steps 4"
        )
    chosen = [times[i * len(times) // steps] for i in range(steps)]
    return torch.tensor([*chosen, 0.0], dtype=torch.float64)


def check_sampling(facts: Facts, path: Path, solver: str, grid: str, w: float) -> None:
    """UserError where a student is asked to be sampled in another way than its own."""
    own: Mapping[str, tuple[str, str]] = {"--solver": (solver, SOLVER), "--grid": (grid, GRID)}
    for flag, (asked, mine) in own.items():
        if asked not in ("auto", mine):
            raise UserError(
                f"{path} is a student, which knows a few times alone and so has one way to be sampled: leave "
                f"{flag} {asked} away, or sample its teacher ({facts.recipe.init})"
            )
    if w != 1:
        part = facts.recipe.distil
        raise UserError(
            f"{path} is a student with the guidance w={part.w:g} of its teacher in its weights: leave --w away, or "
            f"distil the teacher again, `kuosan distil {facts.recipe.init} --steps {part.steps} --w {w:g} --out NEW`"
        )


def needs_flow(facts: Facts, path: Path, what: str) -> None:
    """UserError for a student: ``what`` goes along the flow through all levels of noise."""
    if facts.recipe.distil.steps:
        raise UserError(
            f"{what} needs a model of every level of noise, and {path} is a student, which knows "
            f"{len(facts.recipe.distil.times)}: use its teacher, {facts.recipe.init}"
        )
