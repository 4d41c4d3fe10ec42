"""Going on from a run with low-rank adapters, in a run's folder of its own. The same as `kuosan finetune`.

It is training with ``init`` and ``adapter.rank``, see `adapters`; the old run is never changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kuosan.errors import UserError
from kuosan.recipes import opening
from kuosan.recipes.run import Run
from kuosan.recipes.schema import Recipe
from kuosan.recipes.session import Session
from kuosan.recipes.train import to_the_end

BUDGET = "1m"


def finetune(
    run: Run | str | Path,
    data: str | Path,
    *,
    out: str | Path | None = None,
    budget: str = BUDGET,
    seed: int = 0,
    **leaves: Any,
) -> Run:
    """What ``run`` has learned, brought to other data by low-rank adapters.

    Args:
        data: of the same kind as the run's, in any form that `train` reads.
        out: the new run's folder; RUN-finetuned unless given. One that the same call began there is gone on with.
        budget: of everything, as of `train`.
        leaves: of the recipe, with two underscores for the dot: ``adapter__rank=8``.

    Raises:
        UserError: what the user has to mend, in one sentence.
    """
    asked = {name.replace("__", "."): value for name, value in leaves.items()}
    return to_the_end(prepare(run, data, out=out, asked={"budget": budget, "seed": seed} | asked))


def prepare(
    run: Run | str | Path,
    data: str | Path,
    *,
    out: str | Path | None = None,
    asked: dict[str, Any],
    started: float | None = None,
) -> Session:
    """A session for this: a new one, or the one that the same call began before; see `opening.prepare`.

    Raises:
        UserError: as `finetune`.
    """
    base = run if isinstance(run, Run) else Run(run)
    _ = base.model  # a run without weights says so here
    asked = {"adapter.rank": "auto"} | asked | {"init": str(base.path.resolve())}
    recipe = Recipe().updated(asked)
    if not recipe.adapter.rank:
        raise UserError(
            f"adapter.rank=0 is no adapter: train all weights with `kuosan train {data} --init {base.path}`"
        )
    name = f"{base.path.resolve().name}-finetuned"
    folder = Path("runs" if base.foreign else base.path.parent) / name
    return opening.prepare(data, out=out, recipe=recipe, asked=asked, started=started, folder=folder)
