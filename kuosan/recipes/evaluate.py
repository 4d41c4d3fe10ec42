"""Measuring a run: fresh samples against the data that it held out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kuosan.core.shapes import PICTURE
from kuosan.errors import UserError
from kuosan.evaluation.conditions import Asked
from kuosan.evaluation.evaluate import Evaluation, check_finite, evaluate_samples
from kuosan.evaluation.likelihood import Effort, Likelihood
from kuosan.evaluation.likelihood.checks import bridged
from kuosan.evaluation.likelihood.flow import TOLERANCE
from kuosan.evaluation.stock import HEARS, READS, SEES, stock_folder
from kuosan.evaluation.verdict import in_words
from kuosan.modalities import Dataset, Split
from kuosan.modalities import load as load_data
from kuosan.modalities.folder import CLASS
from kuosan.recipes.bulk import drawn
from kuosan.recipes.ceiling import ceiling
from kuosan.recipes.dense import reading
from kuosan.recipes.judged import with_beside
from kuosan.recipes.measures import with_conditions, with_own
from kuosan.recipes.run import Run, Samples
from kuosan.recipes.steering import Steering
from kuosan.recipes.student import needs_flow
from kuosan.training.checkpoint import write_json

EVALUATION = "evaluation.json"
MOST_NUMBERS = 2**29  # of real items in single precision: 2 GiB, 2,730 colour pictures of 256×256
MEASURING = 40.0  # seconds that measuring may take on two slow cores, unless told
FREE, FEWEST_FREE = 4, 16  # one in so many samples is drawn under no condition as well, and so many at least
UNASKED = 1_500_000  # their seed
FEWEST_ASKED = 16  # samples for held-out captions
SEED = 1_000_000  # of evaluation samples: another stream than the previews' and `kuosan sample`'s default


def data_of(run: Run, data: str | Path | None = None) -> Dataset:
    """The data to measure against: the run's own, or another in the run's form.

    Raises:
        UserError: it is gone, or cannot be brought into the run's form.
    """
    source = Path(data or run.facts.recipe.data.path)
    if not str(data or run.facts.recipe.data.path) or not source.exists():
        raise UserError(
            f"the data {source} of {run.path} is not there: name the data to measure against with --data"
        )
    facts = run.facts
    return load_data(
        source,
        like=run.modality,
        columns=None if run.foreign else facts.columns,
        captions=run.captions,
        options=reading(facts),
    )


def states(split: Split, most: int = 20_000) -> Tensor:
    """Up to ``most`` items as states, of large ones as many as `MOST_NUMBERS` allows."""
    one, _ = split.batch(torch.arange(min(len(split), 1)))
    fits = MOST_NUMBERS // max(1, one.numel())
    x, _ = split.batch(torch.arange(min(len(split), most, fits)))
    return x


def as_written(samples: Samples) -> Tensor:
    """The states that files hold, which is what is measured: clipped, and rounded to their depth.

    Raises:
        UserError: they hold numbers that are not finite, which no file can.
    """
    check_finite(samples.x, "samples")
    return samples.modality.encode(samples.modality.decode(samples.x))


def unasked(run: Run, n: int, **sampling: Any) -> Samples | None:
    """Samples with every condition hidden; None of a model that has none, or never saw them hidden."""
    facts = run.facts
    if not facts.columns or facts.recipe.training.drop == 0 or facts.recipe.distil.steps:
        return None
    hidden = {k: torch.tensor([facts.null[k]]) for k in facts.columns}
    how = Steering(run.modality, run.shape[1:], 1, hidden)
    return run.sample(n, seed=UNASKED, steering=how, **sampling)


def measure(
    run: Run,
    data: Dataset,
    samples: Samples,
    *,
    seconds: float = 30.0,
    seed: int = 0,
    inception: str | Path | None = None,
    encoder: str | Path | None = None,
    most: int = 20_000,
    teach: float = 0.0,
    free: Samples | None = None,
    out: Path | None = None,
) -> Evaluation:
    """All that can be measured of these samples against up to ``most`` items of either side of the data; ``free`` are
    others, which were asked for nothing (`unasked`)."""
    several = [k for k, v in run.facts.columns.items() if len(v) > 1]
    column = CLASS if CLASS in several else next(iter(several), None)
    train, val = states(data.train, most), states(data.val, most)
    known = len(run.facts.columns.get(column or "", ()))

    def labels(split: Split, count: int) -> Tensor | None:
        if column is None or not len(split):
            return None
        found = split.labels[column][:count]
        return found if bool((found < known).all()) else None

    asked = samples.cond.get(column) if column else None
    modality = run.modality
    written, taught, held = (modality.compared(x) for x in (as_written(samples), train, val))
    found = evaluate_samples(
        written,
        taught,
        held,
        axes=modality.compared_axes,
        noun=modality.noun,
        labels=asked if asked is not None and bool((asked < known).all()) else None,
        train_labels=labels(data.train, len(train)),
        val_labels=labels(data.val, len(val)),
        free=None if free is None or column is None else modality.compared(as_written(free)),
        out=out,
        seed=seed,
        seconds=seconds,
        inception=inception,
        encoder=encoder if modality.axes == PICTURE else None,
        teach=teach,
    )
    groups = tuple(split.groups[: len(x)] for split, x in ((data.train, train), (data.val, val)))
    given = None if encoder is None else Path(encoder)
    own = with_own(
        found,
        modality,
        samples.x,
        train,
        val,
        seed,
        out,
        groups=groups,
        others=given,
        writes=samples.modality,
    )
    others = [
        Asked(k, samples.cond[k], data.train.labels[k][: len(train)], data.val.labels[k][: len(val)])
        for k in several
        if k != column and k in samples.cond and modality.axes != PICTURE
    ]
    others = [one for one in others if one.known(len(run.facts.columns[one.name]))]
    found = with_conditions(own, others, written, taught, held, modality.compared_axes, seed, seconds / 4)
    return with_beside(found, run, data, seconds, seed, out)


def encodable(run: Run, encoder: Path) -> None:
    """Raises UserError where no encoder of somebody else knows what the run makes, or there is none in the folder."""
    name = run.modality.name
    what = {"text": READS, "audio": HEARS}.get(name, SEES if run.modality.axes == PICTURE else "")
    if what:
        stock_folder(encoder, what)
    else:
        raise UserError(
            f"--encoder is for texts, pictures and sounds, and {run.path} makes {run.modality.noun}: leave it away"
        )


def with_likelihood(result: dict[str, Any], found: Likelihood | str) -> dict[str, Any]:
    """A result with the likelihood among its metrics and in a part of its own, or with the reason why not."""
    if isinstance(found, str):
        return {**result, "left_out": {**result["left_out"], "likelihood": found}}
    metrics = {name: m.to_json() for name, m in found.metrics.items()}
    return {**result, "metrics": {**result["metrics"], **metrics}, "likelihood": found.to_json()}


def kept(
    run: Run,
    data: Dataset,
    result: dict[str, Any],
    *,
    n: int,
    seed: int,
    seconds: float,
    sampler: dict[str, Any],
) -> dict[str, Any]:
    """The result of an evaluation with its verdict and what it was made with, as it is left beside the run."""
    result["about"] = {
        "samples": n, "seed": seed, **sampler, "data": data.survey.source, "seconds": round(seconds, 2),
    }  # fmt: skip
    result["verdict"] = in_words(result["metrics"], run.modality.noun)
    write_json(run.path / EVALUATION, result)
    return result


def evaluate(
    run: Run,
    *,
    data: str | Path | None = None,
    n: int = 1000,
    seconds: float | None = None,
    steps: int | None = None,
    solver: str = "auto",
    grid: str = "auto",
    w: float | None = None,
    seed: int = SEED,
    inception: str | Path | None = None,
    encoder: str | Path | None = None,
    likelihood: bool = False,
    probes: int | None = None,
    tolerance: float = TOLERANCE,
    tell: Callable[[str], None] = lambda what: None,
    seen: Callable[[Samples], None] = lambda samples: None,
) -> dict[str, Any]:
    """Draw ``n`` samples and measure them; kept beside the run as ``evaluation.json``. Processes that were launched
    together draw together, and the first measures: for the others the result is empty.

    Args:
        encoder: the local folder of a sentence encoder (of texts) or of a network that sees (of pictures: DINOv2,
            CLIP, …) or hears (of sounds: CLAP, …), to measure with as well.
        likelihood: also measure how surprised the model is by up to ``n`` held-out items, with an exact trace for
            ``probes`` 0 and steps of this ``tolerance``, see `kuosan.evaluation.likelihood`.
        tell: is told what goes on there. seen: is given the samples, of states of numbers.

    Raises:
        UserError: no data to measure against, an unknown solver or grid, a damaged run, or no likelihood.
    """
    seconds = MEASURING if seconds is None else seconds
    if encoder is not None:
        encodable(run, Path(encoder))
    dataset = data_of(run, data)
    if run.facts.recipe.process.discrete:
        from kuosan.recipes import masked_measure, text_measure

        masked = run.modality.name in masked_measure.MEASURES
        return (masked_measure.evaluate_masked if masked else text_measure.evaluate_run)(
            run,
            dataset,
            n,
            seconds=seconds,
            seed=seed,
            likelihood=likelihood,
            encoder=encoder,
            steps=steps,
            solver=solver,
            grid=grid,
            w=w,
        )
    if likelihood:
        needs_flow(run.facts, run.path, "the likelihood")
        bridged(run.denoiser)  # or samples would be drawn and measured first
    started = time.monotonic()
    samples = drawn(run, n, steps=steps, solver=solver, grid=grid, seed=seed, w=w)
    if samples is None:  # another process measures them
        return {}
    seen(samples)
    found = measure(
        run,
        dataset,
        samples,
        seconds=seconds,
        inception=inception,
        encoder=encoder,
        teach=seconds / 2,
        free=unasked(run, max(FEWEST_FREE, n // FREE), steps=steps, solver=solver, grid=grid),
        out=None if run.foreign else run.path / "evaluation",
    )
    if run.captions is not None:
        from kuosan.recipes.heard import MOST, with_recall

        how: dict[str, Any] = {"steps": steps, "solver": solver, "grid": grid, "w": w}
        most = min(MOST, max(FEWEST_ASKED, n // 4))
        found = with_recall(found, run, dataset, seconds=seconds / 2, most=most, **how)
    about = {
        "samples": n, "seed": seed, **run.sampler(steps, w, solver, grid),
        "data": dataset.survey.source, "seconds": round(time.monotonic() - started, 2),
    }  # fmt: skip
    roof = ceiling(run, dataset, run.path / "evaluation")
    result = {**found.to_json(), **({"codec": roof.to_json()} if roof else {}), "about": about}
    if likelihood:
        from kuosan.recipes.likelihood import likelihood as measured

        effort = Effort.of(n, probes, tolerance)
        out = None if run.foreign else run.path / "evaluation"
        result = with_likelihood(result, measured(run, dataset, effort, seed=seed, out=out, tell=tell))
    result["verdict"] = in_words(result["metrics"], run.modality.noun)
    if not run.foreign:
        write_json(run.path / EVALUATION, result)
    return result
