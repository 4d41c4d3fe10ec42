"""`kuosan demo`: the whole way once, on real data that is there already."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import kuosan
from kuosan.cli.answer import Answer
from kuosan.cli.failures import working_in
from kuosan.cli.notes import counting, note
from kuosan.cli.options import Json
from kuosan.cli.sample import OVERVIEW
from kuosan.cli.words import shown

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

CLASSES, EACH = 10, 10
SAMPLES = "samples-final"


def demo(*, out: Path = Path("runs/demo"), budget: str = "215s", json: Json = False) -> Answer:
    """Train on 1,797 handwritten digits, draw 100 of them, measure, and write a report; under 4 minutes.

    Args:
        out: the run's folder; the digits are written beside it, as OUT-data.
        budget: 215s, 10m, 500steps: more is better.
    """
    from kuosan.cli.training import complete
    from kuosan.recipes.demo import write_digits
    from kuosan.recipes.opening import prepare
    from kuosan.recipes.run import Run
    from kuosan.recipes.schema import Recipe

    asked = {"budget": budget, "seed": 0, "init": ""}
    recipe = Recipe().updated(asked)
    data = write_digits(out.with_name(f"{out.name}-data"))
    note(
        f"1,797 handwritten digits are in {shown(data)}; what follows is\n"
        f"  kuosan train {shlex.quote(shown(data))} --budget {budget} --out {shlex.quote(shown(out))}\n"
    )
    session = prepare(data, out=out, recipe=recipe, asked=asked, started=kuosan.STARTED)
    working_in(session.run.path)
    trained = complete(session)
    folder = out / SAMPLES
    if not (folder / OVERVIEW).is_file():
        _write_samples(Run(out), folder)
    text = (
        f"{trained.text}\n\n{CLASSES * EACH} samples, one digit per row: {shown(folder / OVERVIEW)}\n"
        f"Open the report in a browser: {trained.data['report']}"
    )
    return Answer(text, {**trained.data, "data": data, "samples": folder, "overview": folder / OVERVIEW})


def _write_samples(run: Run, folder: Path) -> None:
    """Ten of each digit, seed 0, none picked: number 10·d + i is the i-th of digit d."""
    from kuosan.recipes.bulk import joined

    parts = []
    with counting("sampling", CLASSES * EACH) as tell:
        for digit in range(CLASSES):
            parts.append(run.sample(EACH, first=EACH * digit, where={"class": str(digit)}))
            tell(EACH * (digit + 1))
    run.write(joined(parts), folder)
