"""Training from Python: the same as `kuosan train`, without its progress display."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kuosan.recipes.finish import finish
from kuosan.recipes.opening import lock, prepare
from kuosan.recipes.run import Run
from kuosan.recipes.schema import Recipe
from kuosan.recipes.session import Session
from kuosan.recipes.summary import SUMMARY


def train(
    data: str | Path,
    *,
    out: str | Path | None = None,
    budget: str = "10m",
    seed: int = 0,
    init: str = "",
    **leaves: Any,
) -> Run:
    """From a folder of files to a run.

    Args:
        data: a file or a folder; its forms are in docs/reference/data.md.
        out: the run's folder; runs/NAME, or the next free runs/NAME-2 …, unless given. A run that the same call
            began there is gone on with.
        budget: ``10m``, ``2h``, ``5000steps``, ``3Mimages``.
        init: a run's or a diffusers folder to start from.
        leaves: of the recipe, with two underscores for the dot: ``training__lr=1e-3``, ``network="unet"``.

    Raises:
        UserError: what the user has to mend, in one sentence.
    """
    asked = {name.replace("__", "."): value for name, value in leaves.items()}
    asked = {"budget": budget, "seed": seed, "init": init} | asked
    recipe = Recipe().updated(asked)
    return to_the_end(prepare(data, out=out, recipe=recipe, asked=asked))


def to_the_end(session: Session) -> Run:
    """Train what is left of a session, write what a finished run leaves, and hold its folder meanwhile."""
    handle, world = lock(session.run.path), session.world
    try:
        if not world.tell(session.training.count.finished and (session.run.path / SUMMARY).exists()):
            for _ in session.steps():
                pass
            with world.first():
                if world.leads:
                    finish(session)
    finally:
        os.close(handle)
    return session.run
