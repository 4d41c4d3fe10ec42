"""`kuosan interpolate RUN A B`: from one item of your own to another, through the noise of both."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kuosan.cli.answer import Answer
from kuosan.cli.encode import opened
from kuosan.cli.notes import busy
from kuosan.cli.options import Json, Where, at_least, conditions
from kuosan.cli.sample import OVERVIEW, STATES, place, values
from kuosan.cli.words import shown

ROW = 16  # pictures beside each other in the strip


def interpolate(
    run: Path,
    a: Path,
    b: Path,
    /,
    *,
    n: Annotated[int, Parameter(name="-n")] = 8,
    steps: int = 40,
    where: Where = None,
    w: Annotated[float, Parameter(name="--w")] = 1.0,
    out: Path | None = None,
    json: Json = False,
) -> Answer:
    """From one item of your own to another, along a great circle between the noises of both.

    A condition that the two share holds all the way; one in which they differ is hidden, unless --where fixes it.

    Args:
        run: the folder that `kuosan train` wrote to, or a diffusers pipeline's.
        a: a file with the first item, which is brought to the run's form.
        b: a file with the last one.
        n: how many, both ends included.
        steps: steps each way, about three calls of the network each.
        w: guidance weight towards the conditions; 1 is no guidance.
        out: folder for the files; a new one in the run unless given.
    """
    at_least("-n", n, 2)
    at_least("--steps", steps)
    at_least("--w", w, 0)
    fixed = conditions(where)
    from kuosan.recipes.inverse import interpolate as go
    from kuosan.recipes.inverse import one_item

    loaded = opened(run)
    ends = one_item(loaded, a, fixed), one_item(loaded, b, fixed)
    folder = place(out, loaded, "interpolated")
    started = time.monotonic()
    with busy(f"going from {a.name} to {b.name}"):
        samples, about = go(loaded, ends, n, steps=steps, w=w)
    seconds = time.monotonic() - started
    raws = samples.modality.decode(samples.x)
    paths = loaded.write(samples, folder, samples.modality.show(raws, min(n, ROW)))
    norms = " and ".join(f"{norm:.1f}" for norm in about["norms"])
    text = (
        f"{n:,} from {a} to {b}, {seconds:.1f} s: {shown(folder)}\n"
        f"Their noises have norms {norms} and stand at {about['angle']:.0f}°.\n"
        f"All in a row: {shown(folder / OVERVIEW)}"
    )
    data = {
        "run": run, "a": a, "b": b, "out": folder, "n": n, "steps": steps, "w": w, "where": fixed,
        "seconds": round(seconds, 3), "conditions": values(loaded.facts, samples.cond), **about, "files": paths,
        "states": folder / STATES, "overview": folder / OVERVIEW,
    }  # fmt: skip
    return Answer(text, data)
