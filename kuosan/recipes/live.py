"""Samples as they come: one after the other, or as the frames of a way between noises that has no end.

A model that needs one step answers in milliseconds, so that nobody has to wait for the last of many samples to see the
first, and moving the noise moves the picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.core.shapes import as_time
from kuosan.core.sphere import great_circle
from kuosan.errors import UserError
from kuosan.processes.gaussian import GaussianProcess
from kuosan.recipes.conditions import Where, asked_of
from kuosan.recipes.run import Run, Samples

LEG = 48  # frames from one noise to the next


def stream(
    run: Run, n: int | None = None, *, first: int = 0, together: int = 1, **asked: Any
) -> Iterator[Samples]:
    """The samples of `Run.sample`, each as soon as it is ready; without end where ``n`` is None.

    Args:
        together: how many at a time, which come faster per sample and later.
        asked: further arguments of `Run.sample`.
    """
    for low in itertools.count(first, together):
        count = together if n is None else min(together, first + n - low)
        if count < 1:
            return
        yield run.sample(count, first=low, **asked)


def wander(
    run: Run,
    seed: int = 0,
    *,
    where: Where | None = None,
    steps: int | None = None,
    leg: int = LEG,
) -> Iterator[Tensor]:
    """States (1, ...) on an endless way along great circles, from the noise of one sample number to the next's, ``leg``
    frames each. Conditions that ``where`` does not name are hidden, so that nothing jumps.

    Noise that a step after the first draws is the same in all frames.

    Raises:
        UserError: an unknown condition, or noise that is not Gaussian, whose great circles mean nothing.
    """
    if not isinstance(run.denoiser.process, GaussianProcess):
        raise UserError(
            f"great circles are for Gaussian noise, and {run.path} is {run.denoiser.process}: train with "
            "noise=gaussian, or look at single samples with `kuosan sample --stream`"
        )
    cond = run.facts.hidden(1) | asked_of(run.facts, run.captions, range(1), where or {})
    same = Seeds.of(seed, 1).fold("frames")
    like = torch.empty(1, *run.latent_shape)
    for number in itertools.count():
        a, b = (Seeds.of(seed, [number + i]).normal(like) for i in (0, 1))
        for i in range(leg):
            with torch.inference_mode():
                for step in run.walk(same, cond, steps=steps, noise=great_circle(a, b, as_time(i / leg, 1))):
                    x = step.x
                x = run.decoded(x).cpu()
            yield x
