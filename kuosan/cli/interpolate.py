"""`kuosan interpolate RUN A B`: from one item of your own to another, through the noise of both; or, with --live, from
one noise to the next without an end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kuosan.cli.answer import Answer
from kuosan.cli.encode import opened
from kuosan.cli.notes import busy
from kuosan.cli.options import Flag, Json, Where, at_least, conditions
from kuosan.cli.options import seed as checked_seed
from kuosan.cli.sample import OVERVIEW, STATES, place, values
from kuosan.cli.words import shown
from kuosan.errors import UserError

ROW = 16  # pictures beside each other in the strip


def interpolate(
    run: Path,
    a: Path | None = None,
    b: Path | None = None,
    /,
    *,
    n: Annotated[int, Parameter(name="-n")] = 8,
    steps: int | None = None,
    live: Flag = False,
    seconds: float = 10.0,
    seed: int = 0,
    where: Where = None,
    w: Annotated[float, Parameter(name="--w")] = 1.0,
    out: Path | None = None,
    json: Json = False,
) -> Answer:
    """From one item of your own to another, along a great circle between the noises of both; or moving pictures.

    With --live, and no A and B, samples of noises on a way without an end, as fast as they come: drawn where this is a
    terminal, and the rate is measured. Take a student of one step (`kuosan distil`).

    A condition that the two share holds all the way; one in which they differ is hidden, unless --where fixes it.

    Args:
        run: the folder that `kuosan train` wrote to, or a diffusers pipeline's.
        a: a file with the first item, which is brought to the run's form.
        b: a file with the last one.
        n: how many, both ends included.
        steps: steps each way, about three calls of the network each; 40. With --live, per frame; the run's own.
        live: moving pictures.
        seconds: how long --live goes on; Ctrl-C ends it sooner.
        seed: of the noises of --live.
        w: guidance weight towards the conditions; 1 is no guidance.
        out: folder for the files; a new one in the run unless given.
    """
    at_least("-n", n, 2)
    at_least("--steps", steps)
    at_least("--w", w, 0)
    fixed = conditions(where)
    if live:
        if a is not None or out is not None or w != 1:
            raise UserError("--live goes between noises and writes no files: leave A, B, --out and --w away")
        from kuosan.cli.live import live as go_on

        return go_on(opened(run), seconds, checked_seed(seed), fixed, steps)
    if a is None or b is None:
        raise UserError(
            "kuosan interpolate needs two items to go between: name a file for A and one for B, or give --live"
        )
    steps = 40 if steps is None else steps
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
        "seconds": round(seconds, 3), "conditions": values(loaded, samples.cond), **about, "files": paths,
        "states": folder / STATES, "overview": folder / OVERVIEW,
    }  # fmt: skip
    return Answer(text, data)
