"""`kuosan finetune RUN DATA`: a trained model on other data, by low-rank adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

import kuosan
from kuosan.cli.answer import Answer
from kuosan.cli.failures import working_in
from kuosan.cli.notes import busy
from kuosan.cli.options import Json, pairs
from kuosan.cli.options import seed as checked_seed


def finetune(
    run: Path,
    data: Path,
    /,
    *,
    budget: str | None = None,
    seed: int = 0,
    set_: Annotated[list[str] | None, Parameter(name="--set", metavar="PART.KEY=VALUE")] = None,
    track: Literal["wandb", "trackio"] | None = None,
    out: Path | None = None,
    json: Json = False,
) -> Answer:
    """Bring a trained model to other data by low-rank adapters; the same command again goes on where it stopped.

    The run that it starts from is never changed. The result is a run of its own: sample it, evaluate it, export it. Its
    folder `adapter` holds the adapters alone, in the form of PEFT, for `kuosan sample RUN --adapter`.

    Args:
        run: what to start from: the folder that `kuosan train` wrote to, or a diffusers pipeline's.
        data: a folder or a file of the same kind as the run's data; it may have classes of its own.
        budget: 90s, 10m, 5000steps, 3Mimages, report included; 1m unless given.
        seed: of everything random.
        set_: leaves of the recipe: adapter.rank=8 training.lr=1e-3; may be repeated.
        track: tell Weights & Biases or Trackio too, on this machine unless their own settings say otherwise.
        out: the new run's folder; RUN-finetuned unless given.
    """
    from kuosan.cli.training import complete
    from kuosan.recipes.finetune import BUDGET, prepare
    from kuosan.recipes.schema import read_value

    asked: dict[str, Any] = {"budget": budget or BUDGET, "seed": checked_seed(seed)}
    asked |= {"track": track} if track else {}
    asked |= {key: read_value(value) for key, value in pairs(set_, "--set")}
    with busy(f"reading {run} and {data}"):
        session = prepare(run, data, out=out, asked=asked, started=kuosan.STARTED)
    working_in(session.run.path)
    return complete(session)
