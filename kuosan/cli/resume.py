"""`kuosan resume RUN`: goes on with a run from its last checkpoint, or finishes what is left of it."""

from __future__ import annotations

from pathlib import Path

import kuosan
from kuosan.cli.answer import Answer
from kuosan.cli.failures import working_in
from kuosan.cli.options import Json


def resume(run: Path, /, *, json: Json = False) -> Answer:
    """Go on with a run from its last checkpoint.

    Args:
        run: the folder that `kuosan train` wrote to.
    """
    from kuosan.cli.training import complete
    from kuosan.recipes.opening import reopen
    from kuosan.recipes.run import Run

    if not Run(run).foreign:
        working_in(run)
    return complete(reopen(run, started=kuosan.STARTED))
