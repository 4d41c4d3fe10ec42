"""`kuosan encode RUN DATA`: the noise that stands for a person's own items, and what comes back of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kuosan.cli.answer import Answer, plain
from kuosan.cli.failures import working_in
from kuosan.cli.notes import busy
from kuosan.cli.options import Json, Where, at_least, conditions
from kuosan.cli.sample import OVERVIEW, STATES, place, values
from kuosan.cli.words import shown

if TYPE_CHECKING:
    from kuosan.recipes.run import Run

NOISE, ERRORS = "noise.safetensors", "errors.json"


def encode(
    run: Path,
    data: Path,
    /,
    *,
    n: Annotated[int, Parameter(name="-n")] = 64,
    steps: int = 40,
    where: Where = None,
    w: Annotated[float, Parameter(name="--w")] = 1.0,
    out: Path | None = None,
    json: Json = False,
) -> Answer:
    """Encode items of your own to noise, take them back, and measure what came back.

    Args:
        run: the folder that `kuosan train` wrote to, or a diffusers pipeline's.
        data: a file or a folder, brought to the run's form; conditions are read from it where it has them.
        n: how many items at most, evenly spread over their names; exact copies count once.
        steps: steps each way, about three calls of the network each; more come closer to the exact flow.
        w: guidance weight towards the conditions; 1 is no guidance.
        out: folder for the files; a new one in the run unless given.
    """
    at_least("-n", n)
    at_least("--steps", steps)
    at_least("--w", w, 0)
    fixed = conditions(where)
    from kuosan.recipes.inverse import decode, read_items
    from kuosan.recipes.inverse import encode as to_noise
    from kuosan.recipes.returned import errors, normality, pairs, sentence
    from kuosan.training.checkpoint import write_json

    loaded = opened(run)
    items = read_items(loaded, data, n, fixed)
    folder = place(out, loaded, "encoded")
    started = time.monotonic()
    with busy(f"taking {len(items):,} items to noise and back"):
        noise = to_noise(loaded, items, steps=steps, w=w)
        back = decode(loaded, noise)
    seconds = time.monotonic() - started
    found = errors(items, noise, back)
    paths = loaded.write(back, folder, pairs(items, back))
    noise.save(folder / NOISE)
    about = {"data": data, "n": len(items), "steps": steps, "w": w, "where": fixed}
    write_json(folder / ERRORS, plain({"errors": found, **about, "names": items.names}))
    return Answer(
        f"{sentence(found)}\n{normality(found)}\n"
        f"{len(items):,} items to noise and back in {steps} steps each way, {seconds:.1f} s.\n"
        f"Noise, for `kuosan sample {run} --noise`: {shown(folder / NOISE)}\n"
        f"Real above returned: {shown(folder / OVERVIEW)}",
        {
            "run": run, "out": folder, **about, "seconds": round(seconds, 3), "names": items.names,
            "conditions": values(loaded, items.cond), "errors": found, "noise": folder / NOISE,
            "files": paths, "states": folder / STATES, "overview": folder / OVERVIEW,
        },
    )  # fmt: skip


def opened(run: Path) -> Run:
    """The run, with its weights: a damaged one should say so before any data is read."""
    from kuosan.recipes.run import Run

    loaded = Run(run)
    if not loaded.foreign:
        working_in(run)
    _ = loaded.denoiser
    return loaded


def of_tokens(run: Path) -> bool:
    """Whether a run's states are tokens."""
    from kuosan.recipes.run import Run

    loaded = Run(run)
    return not loaded.foreign and loaded.facts.recipe.process.discrete


def opened_tokens(run: Path) -> Run:
    """`opened`, of a run over tokens."""
    from kuosan.recipes.run import Run

    loaded = Run(run)
    working_in(run)
    _ = loaded.model
    return loaded
