"""`kuosan compare DATA`: diffusion beside a VAE and a GAN, or an autoregressive model, on your own data."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kuosan.cli.answer import Answer
from kuosan.cli.failures import Stopped, working_in
from kuosan.cli.notes import busy, note, table
from kuosan.cli.options import Flag, Json, at_least, pairs
from kuosan.cli.progress import watch
from kuosan.cli.words import shown

if TYPE_CHECKING:
    from kuosan.recipes.contest import Arm


def compare(
    data: Path,
    /,
    *,
    out: Path | None = None,
    budget: str = "5m",
    seeds: int = 3,
    n: Annotated[int, Parameter(name="-n")] = 1000,
    methods: str = "auto",
    no_mixture: Flag = False,
    set_: Annotated[list[str] | None, Parameter(name="--set", metavar="PART.KEY=VALUE")] = None,
    json: Json = False,
) -> Answer:
    """Which kind of model suits this data? Trains each kind for as long, at the same size, and measures all alike.

    The same command again goes on where it stopped: an arm that is finished is not trained again.

    Args:
        data: as for `kuosan train`.
        out: the folder of the arms and of the page; runs/NAME-compare unless given.
        budget: of each arm, 5m or 2000steps; there are as many arms as methods times seeds.
        seeds: trainings of each method; differences are judged by how much these differ.
        n: samples of each arm; of texts and music 256 at most.
        methods: diffusion,vae,gan of pictures and other dense data, diffusion,autoregressive of texts and music; all
            that fit unless given. Diffusion always takes part.
        no_mixture: leave out the test for dropped modes.
        set_: leaves of the diffusion's recipe, which decide the data's form too: data.max_side=32; may be repeated.
    """
    at_least("--seeds", seeds)
    at_least("-n", n, 16)
    from kuosan.recipes.compare import compare as run
    from kuosan.recipes.schema import read_value
    from kuosan.training.interrupt import Interrupted

    chosen = () if methods == "auto" else tuple(m.strip() for m in methods.split(",") if m.strip())
    leaves = {key: read_value(value) for key, value in pairs(set_, "--set")}
    again = f"go on with the same command, `kuosan compare {shlex.quote(shown(data))}`"
    try:
        with busy(f"reading {data}"):
            working_in(out)
        result = run(
            data,
            out=out,
            budget=budget,
            seeds=seeds,
            n=n,
            methods=chosen,
            modes=not no_mixture,
            train=_train,
            **leaves,
        )
    except (Interrupted, KeyboardInterrupt) as error:
        signum = error.signum if isinstance(error, Interrupted) else signal.SIGINT
        raise Stopped(signum, f"interrupted; every arm that was finished is kept: {again}") from None
    lines = [a["sentence"] for a in result["answers"].values()]
    rows = [
        (
            m,
            f"{v['parameters']:,}",
            f"{v['steps']:,.0f}",
            f"{1000 * v['seconds_per_sample']:.3g}",
            _modes(result, m),
        )
        for m, v in result["methods"].items()
    ]
    heads = ("method", "parameters", "steps", "ms per sample", "modes of 25")
    return Answer("\n".join([*lines, "", table(rows, heads), "", f"Page: {result['report']}"]), result)


def _modes(result: dict[str, object], method: str) -> str:
    found = result["mixture"]
    assert isinstance(found, dict)
    return str(found[method]["modes"]) if method in found else "–"


def _train(arm: Arm) -> None:
    """Train and measure an arm, with progress."""
    note(f"{arm}{' on the mixture' if arm.folder.parent.name == 'mixture' else ''}:")
    steps = arm.steps()
    for _ in watch(steps, arm.batch):
        pass
    with busy(f"sampling {arm} and measuring"):
        arm.measure()
