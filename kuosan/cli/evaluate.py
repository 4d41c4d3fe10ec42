"""`kuosan evaluate RUN`: fresh samples, measured against data that the run did not train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from kuosan.cli.answer import Answer
from kuosan.cli.failures import working_in
from kuosan.cli.notes import busy, seldom, table
from kuosan.cli.options import Flag, Json, at_least
from kuosan.cli.options import seed as checked_seed
from kuosan.cli.sample import varied
from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.run import Run


def evaluate(
    run: Path,
    /,
    *others: Path,
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
    faults: str | None = None,
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
        others: more runs: all are measured alike, and compared with the first.
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
        faults: of music: see `kuosan sample`.
        seed: of the samples and of all that measuring draws.
        inception: local safetensors file of the weights that FID is defined with.
        encoder: local folder in the form of Hugging Face, whose features are measured in too: of texts a sentence
            encoder, of pictures a network that sees (DINOv2, CLIP, …), of sounds one that hears (CLAP, …).
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
    from kuosan.cli.words import (
        baseline_lines,
        codec_lines,
        likelihood_lines,
        metric_table,
        noun,
        verdict_table,
    )
    from kuosan.recipes.evaluate import SEED
    from kuosan.recipes.evaluate import evaluate as measure
    from kuosan.training.parallel import join

    join()
    if encoder is not None and not encoder.is_dir():
        raise UserError(
            f"there is no folder {encoder}: give --encoder the folder of a model in Hugging Face's form"
        )
    given = {"--inception": inception is not None, "--probes": probes is not None}

    def opened(path: Path) -> Run:
        return varied(_opened(path, given, encoder), ema, autoguide, temperature, nucleus, faults)

    loaded = opened(run)
    _ = loaded.model  # a damaged run should say so before its data is read
    chosen = SEED if seed is None else checked_seed(seed)
    options: dict[str, Any] = {
        "data": data, "n": n, "steps": steps, "solver": solver, "grid": grid, "w": w, "seed": chosen,
        "inception": inception, "encoder": encoder, "likelihood": likelihood, "probes": probes, "tolerance": tolerance,
    }  # fmt: skip
    if others:
        names = [str(path) for path in (run, *others)]
        if len(set(names)) < len(names):
            raise UserError("a run is named twice: give every run once")
        return _beside([loaded, *map(opened, others)], names, options)
    with busy(f"drawing {n:,} samples and measuring them"):
        result = measure(loaded, **options, tell=seldom())
    if not result:
        return Answer("")
    if not result["metrics"]:
        why = next(iter(result["left_out"].values()), "there is nothing to compare with")
        raise UserError(f"nothing can be measured of {n:,} samples of {run} ({why}): ask for more with -n")
    about = result["about"]
    head = f"{n:,} samples of {run} in {about['steps']} steps, against {about['data']}"
    left_out = [f"not measured: {name}: {why}" for name, why in result.get("left_out", {}).items()]
    parts = codec_lines(result["codec"]) if "codec" in result else []
    parts += likelihood_lines(result["likelihood"]) if "likelihood" in result else []
    parts += baseline_lines(result["metrics"], result["baselines"]) if "baselines" in result else []
    things = noun(loaded.facts.modality["modality"])
    said = [verdict_table(result["verdict"]), "", metric_table(result["metrics"], things)]
    text = "\n".join([head, "", *said, *parts, *([""] if left_out else []), *left_out])
    return Answer(text, {"run": run, **result})


def _opened(path: Path, given: Mapping[str, bool], encoder: Path | None) -> Run:
    """A run that can be measured so."""
    from kuosan.recipes.evaluate import encodable
    from kuosan.recipes.run import Run

    loaded = Run(path)
    if not loaded.foreign:
        working_in(path)
    discrete = loaded.facts.recipe.process.discrete
    if discrete and any(given.values()):
        flag = next(name for name, is_given in given.items() if is_given)
        raise UserError(f"{flag} is for pictures, and {path} is a model of texts: leave it away")
    if encoder is not None:
        encodable(loaded, encoder)
    return loaded


def _beside(runs: Sequence[Run], names: Sequence[str], options: Mapping[str, Any]) -> Answer:
    """Several runs: one table, and what can be told of their differences to the first."""
    from kuosan.evaluation.report_words import error, number
    from kuosan.evaluation.versus import Difference
    from kuosan.recipes.between import evaluate_runs, in_words

    with busy(f"drawing {options['n']:,} samples of each of {len(runs)} runs and measuring them"):
        found = evaluate_runs(runs, names=names, tell=seldom(), **options)
    if not all(found["runs"].values()):
        return Answer("")
    first = found["runs"][names[0]]["metrics"]

    def cell(name: str, metric: str) -> str:
        m = found["runs"][name]["metrics"].get(metric)
        if m is None or m["value"] is None:
            return "–"
        return (
            f"{number(m['value'], m['stderr'])} ± {error(m['stderr'])}" if m["stderr"] else number(m["value"])
        )

    lines = [table([(k, *(cell(name, k) for name in names)) for k in first], ("metric", *names))]
    for name, each in found["differences"].items():
        lines += ["", f"{name} beside {names[0]}:"]
        for metric, d in each.items():
            plain = {k: v for k, v in d.items() if k != "told_apart"}
            lines.append("  " + in_words(metric, Difference(**plain), first[metric]["better"]))
    return Answer("\n".join(lines), found)
