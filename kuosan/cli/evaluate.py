"""`kuosan evaluate RUN`: fresh samples, measured against data that the run did not train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kuosan.cli.answer import Answer
from kuosan.cli.failures import working_in
from kuosan.cli.notes import busy, seldom
from kuosan.cli.options import Flag, Json, at_least
from kuosan.cli.options import seed as checked_seed
from kuosan.cli.sample import varied
from kuosan.errors import UserError


def evaluate(
    run: Path,
    /,
    *,
    data: Path | None = None,
    n: Annotated[int, Parameter(name="-n")] = 1000,
    steps: int | None = None,
    solver: str = "auto",
    grid: str = "auto",
    w: Annotated[float | None, Parameter(name="--w")] = None,
    autoguide: float | None = None,
    ema: float | None = None,
    temperature: float | None = None,
    nucleus: float | None = None,
    seed: int | None = None,
    inception: Path | None = None,
    encoder: Path | None = None,
    likelihood: Flag = False,
    probes: int | None = None,
    tolerance: float = 1e-4,
    json: Json = False,
) -> Answer:
    """Draw samples and measure them: fidelity, diversity, classes, copies; each with its standard error.

    Args:
        run: the folder that `kuosan train` wrote to, or a diffusers pipeline's (then with --data).
        data: measure against this instead of the run's own data.
        n: how many samples to draw.
        steps: steps per sample, each a call of the network (two with heun); the run's own unless given.
        solver: name of the solver.
        grid: name of the time grid.
        w: guidance weight; 1 is no guidance.
        autoguide: guidance weight away from an early state of the model; 1 is no guidance.
        ema: relative length of the average that the weights are taken from.
        temperature: of texts and music: see `kuosan sample`.
        nucleus: of texts and music: see `kuosan sample`.
        seed: of the samples and of all that measuring draws.
        inception: local safetensors file of the weights that FID is defined with.
        encoder: of texts: local folder of a sentence encoder, whose features are measured in too.
        likelihood: also bits per dimension of up to n held-out items: the evidence bound and its terms, in few steps,
            and the probability flow's; of texts, bits per character beside n-grams and compressors.
        probes: of the flow's trace; 0 is exact, at a price that grows with the size.
        tolerance: of the flow's steps.
    """
    at_least("--probes", probes, 0)
    if not 0 < tolerance < 1:
        raise UserError(f"--tolerance {tolerance:g} is not between 0 and 1: give for example 1e-4")
    at_least("-n", n)
    at_least("--steps", steps)
    at_least("--w", w, 0)
    at_least("--autoguide", autoguide, 0)
    if inception is not None and not inception.is_file():
        raise UserError(
            f"there is no file {inception}: give --inception a safetensors file of Inception weights"
        )
    from kuosan.cli.words import baseline_lines, codec_lines, likelihood_lines, metric_table, noun
    from kuosan.recipes.evaluate import SEED
    from kuosan.recipes.evaluate import evaluate as measure
    from kuosan.recipes.run import Run
    from kuosan.training.parallel import join

    join()
    loaded = Run(run)
    if not loaded.foreign:
        working_in(run)
    loaded = varied(loaded, ema, autoguide, temperature, nucleus)
    _ = loaded.model  # a damaged run should say so before its data is read
    given = {"--inception": inception is not None, "--probes": probes is not None}
    if loaded.facts.recipe.process.discrete and any(given.values()):
        flag = next(name for name, is_given in given.items() if is_given)
        raise UserError(f"{flag} is for pictures, and {run} is a model of texts: leave it away")
    if encoder is not None and not loaded.facts.recipe.process.discrete:
        raise UserError(f"--encoder is for texts, and {run} is no model of texts: leave it away")
    if encoder is not None and not encoder.is_dir():
        raise UserError(f"there is no folder {encoder}: give --encoder the folder of a sentence encoder")
    chosen = SEED if seed is None else checked_seed(seed)
    with busy(f"drawing {n:,} samples and measuring them"):
        result = measure(
            loaded,
            data=data,
            n=n,
            steps=steps,
            solver=solver,
            grid=grid,
            w=w,
            seed=chosen,
            inception=inception,
            encoder=encoder,
            likelihood=likelihood,
            probes=probes,
            tolerance=tolerance,
            tell=seldom(),
        )
    if not result:
        return Answer("")
    about = result["about"]
    head = f"{n:,} samples of {run} in {about['steps']} steps, against {about['data']}"
    left_out = [f"not measured: {name}: {why}" for name, why in result.get("left_out", {}).items()]
    parts = codec_lines(result["codec"]) if "codec" in result else []
    parts += likelihood_lines(result["likelihood"]) if "likelihood" in result else []
    parts += baseline_lines(result["metrics"], result["baselines"]) if "baselines" in result else []
    things = noun(loaded.facts.modality["modality"])
    text = "\n".join(
        [head, "", metric_table(result["metrics"], things), *parts, *([""] if left_out else []), *left_out]
    )
    return Answer(text, {"run": run, **result})
