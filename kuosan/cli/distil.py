"""`kuosan distil RUN`: a student that needs one, two or four steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import kuosan
from kuosan.cli.answer import Answer
from kuosan.cli.failures import working_in
from kuosan.cli.notes import busy
from kuosan.cli.options import Json, at_least
from kuosan.cli.options import seed as checked_seed


def distil(
    run: Path,
    /,
    *,
    steps: int = 1,
    budget: str | None = None,
    w: Annotated[float | None, Parameter(name="--w")] = None,
    seed: int = 0,
    data: Path | None = None,
    out: Path | None = None,
    json: Json = False,
) -> Answer:
    """Train a student of a run that samples in so few steps; the same command again goes on where it stopped.

    The student is a run of its own: sample it, evaluate it, export it.

    Args:
        run: the teacher: the folder that `kuosan train` wrote to, or a diffusers pipeline's (then with --data).
        steps: 1, 2 or 4.
        budget: 10m, 2h, 5000steps, 3Mimages, for the teacher's part and the student's; the teacher's own unless given.
        w: guidance weight towards the conditions, learned with the rest; the teacher's own unless given.
        seed: of everything random.
        data: measure against this instead of the teacher's own data.
        out: the student's folder; RUN-1-step, RUN-2-step, … unless given.
    """
    at_least("--w", w, 0)
    checked_seed(seed)
    from kuosan.cli.training import complete
    from kuosan.recipes.distil import prepare

    with busy(f"reading {run}"):
        session = prepare(
            run, steps, budget=budget, w=w, seed=seed, data=data, out=out, started=kuosan.STARTED
        )
    working_in(session.run.path)
    return complete(session)
