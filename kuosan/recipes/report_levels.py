"""The diagnosis by noise level: where training items are known better than others, and where samples go astray.

**Loss** of held-out and of as many training items, at the same times and noise: what is learned by heart shows as a
gap, level by level.

**Begun from real items.** Held-out items under the noise of time t are denoised from there by the run's own sampler,

    x_t = α_t x + σ_t ε,     x_t → x̂ along the rest of the grid                                    (1)

and the Fréchet distance of what comes out to other held-out items is taken for several t. At t = 0 it is that of the
items themselves, at t = 1 that of samples, and where it rises the model goes wrong: what lies above that level is not
to blame. All levels share their items and the reference, so what is told is a difference of pairs
(`evaluation.paired`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kuosan.evaluation.encoder import load_encoder
from kuosan.evaluation.features import FeatureSpace
from kuosan.evaluation.features import states as raw
from kuosan.evaluation.frechet import FrechetDistance
from kuosan.evaluation.paired import paired_difference
from kuosan.evaluation.plots import FIRST, SECOND, draw
from kuosan.evaluation.report_section import Section
from kuosan.evaluation.report_words import AGREES, error, number
from kuosan.recipes.steering import Steering
from kuosan.training.validation import LEVELS, MOST_ITEMS

if TYPE_CHECKING:
    from kuosan.recipes.session import Session

TITLE = ("levels", "Noise levels", "At which noise is it weak?")
SEED = 3_000_000  # of the noise that real items are put under
BEGUN = 5  # times to begin from
FEWEST, MOST = 32, 256  # items to begin from
MOST_REFERENCE = 2000


def levels_of(session: Session, seconds: float) -> dict[str, Any]:
    """What is known by level, as JSON, within so many seconds; see `evaluation.verdict` for what it says."""
    if session.lessons:  # a student is asked other questions
        return {}
    started = time.monotonic()
    out: dict[str, Any] = {}
    calls = 2 * LEVELS * min(MOST_ITEMS, len(session.training.val))
    of_calls = calls * session.seconds_per_sample / session.facts.recipe.sampling.steps
    if session.adapter is None and 0 < of_calls < seconds:
        out |= _gaps(session)
    if not session.facts.recipe.process.discrete:
        out |= _begun(session, seconds - (time.monotonic() - started))
    return out


def _gaps(session: Session) -> dict[str, Any]:
    """The loss of held-out and of training items, over all and by level."""
    training = session.training
    held, seen = (training.judge(session.run.model, items) for items in (training.val, training.train))
    rows = [
        {
            "place": place, "held_out": a, "seen": b, "held_out_stderr": da, "seen_stderr": db,
            "gap": a - b, "gap_stderr": math.hypot(da, db),
        }
        for (place, a), (_, b), da, db in zip(
            held.levels, seen.levels, held.level_stderrs, seen.level_stderrs, strict=True
        )
    ] if held.level_stderrs and seen.level_stderrs else []  # fmt: skip
    gap = {
        "value": held.loss - seen.loss, "stderr": math.hypot(held.stderr, seen.stderr), "held_out": held.loss,
        "n": held.n, "n_seen": seen.n,
    }  # fmt: skip
    return {"axis": held.axis, "gap": gap, "gaps": rows} if rows else {}


def _begun(session: Session, seconds: float) -> dict[str, Any]:
    """Eq. 1 at times of the run's own grid; nothing where too few items are held out or too little time is left."""
    run, val = session.run, session.data.val
    chosen = run.sequence()
    steps = run.facts.recipe.sampling.steps
    grid = (run.grid(steps) if chosen is None else chosen.grid_of()).flip(0)
    count = len(grid) - 1
    places = sorted({max(1, round(count * k / BEGUN)) for k in range(1, BEGUN + 1)})
    per_item = (
        session.seconds_per_sample * sum(places) / count
    )  # what begins in the middle takes half of the steps
    n = min(MOST, len(val) // 2, int(seconds / per_item))
    if n < FEWEST:
        return {}
    generator = torch.Generator().manual_seed(SEED)
    order = torch.randperm(len(val), generator=generator)
    x, cond = val.batch(order[:n])
    reference, _ = val.batch(order[n : n + MOST_REFERENCE])
    space = _space(session, x)
    seen = run.modality.compared
    rows, real, metric = space(seen(x.float())), space(seen(reference.float())), FrechetDistance()
    cond = {k: v for k, v in cond.items() if k in run.facts.columns}
    found = []
    for place in places:
        t = float(grid[place]) if place < count else 1.0
        how = Steering(run.modality, run.shape[1:], n, cond, vary=x, strength=t)
        made = run.sample(n, seed=SEED, steering=how)
        mine = space(seen(run.modality.encode(run.modality.decode(made.x)).float()))
        more = paired_difference(metric, mine, rows, real)
        found.append(
            {"begun": t, "value": metric.value(mine, real), "more": more.value, "more_stderr": more.stderr}
        )
    floor = metric.value(rows, real)
    return {"begun": found, "floor": floor, "space": space.name, "n": n, "n_reference": len(reference)}


def _space(session: Session, x: Tensor) -> FeatureSpace:
    """That in which the run's samples were measured, of states like ``x``."""
    folder = session.run.path / "evaluation"
    if (folder / "encoder.safetensors").is_file():
        return load_encoder(folder)
    modality = session.run.modality
    return raw(modality.compared(x[:1].float()).shape[1:], modality.compared_axes)


def levels_section(levels: Mapping[str, Any], noun: str) -> list[Section]:
    """What the report shows of it; nothing where nothing was measured."""
    lead, figures = [], []
    if begun := levels.get("begun"):
        lead.append(
            f"Held-out {noun} under noise of time t, denoised from there by the sampler that makes samples "
            f"(n = {levels['n']:,}). At t = 0 they are real, at t = 1 the result is a sample; where the distance to "
            f"other held-out {noun} rises, the model goes wrong."
        )
        caption = (
            f"Fréchet distance ({levels['space']}) to {levels['n_reference']:,} other held-out {noun}; the line is "
            f"that of the {noun} themselves, bars are two standard errors of the difference to it."
        )
        figures.append((caption, _begun_chart(begun, levels["floor"])))
    if gaps := levels.get("gaps"):
        gap = levels["gap"]
        lead.append(_gap_words(gap, gaps, levels["axis"], noun))
        caption = (
            f"Loss of {gap['n']:,} held-out {noun} and of {gap['n_seen']:,} training ones at the same times and noise; "
            "bars are two standard errors."
        )
        figures.append((caption, _gap_chart(gaps, levels["axis"])))
    return [Section(*TITLE, lead, figures)] if figures else []


def _gap_words(gap: Mapping[str, Any], gaps: Sequence[Mapping[str, Any]], axis: str, noun: str) -> str:
    mean = f"{number(gap['value'], gap['stderr'])} ± {error(gap['stderr'])}"
    whole = f"What held-out {noun} cost more than training ones is {mean} of loss"
    beyond = [row for row in gaps if row["gap"] > AGREES * row["gap_stderr"]]
    if not beyond:
        return f"{whole}; at none of {len(gaps)} levels of noise by more than two standard errors."
    most = max(beyond, key=lambda row: row["gap"] / row["held_out"] if row["held_out"] > 0 else 0.0)
    at = f"{axis} {most['place']:.2g}"
    return (
        f"{whole}; by more than two standard errors at {len(beyond)} of {len(gaps)} levels of noise, most at {at} "
        f"({number(most['gap'], most['gap_stderr'])} ± {error(most['gap_stderr'])})."
    )


def _begun_chart(begun: Sequence[Mapping[str, Any]], floor: float) -> str:
    def paint(axes: Any) -> None:
        axes.axhline(floor, color=SECOND, lw=1.2)
        axes.annotate("real", (1.0, floor), xytext=(7, 0), textcoords="offset points", color=SECOND, va="center",
                      annotation_clip=False)  # fmt: skip
        t, value = [0.0, *(row["begun"] for row in begun)], [floor, *(row["value"] for row in begun)]
        bars = [0.0, *(2 * row["more_stderr"] for row in begun)]
        axes.errorbar(t, value, bars, color=FIRST, lw=2, marker="o", ms=4.5, capsize=2)
        axes.set_ylim(bottom=min(0.0, *value))
        axes.set_xlabel("begun at t   (0 data, 1 noise)")
        axes.set_ylabel("Fréchet distance")

    return draw("begun", "Distance of what begins from real items under noise, by its level", paint)


def _gap_chart(gaps: Sequence[Mapping[str, Any]], axis: str) -> str:
    def paint(axes: Any) -> None:
        x = [row["place"] for row in gaps]
        for name, said, colour, shape in (
            ("held_out", "held out", SECOND, "o"), ("seen", "training", FIRST, "s"),
        ):  # fmt: skip
            axes.errorbar(
                x, [row[name] for row in gaps], [2 * row[f"{name}_stderr"] for row in gaps],
                color=colour, lw=1.6, marker=shape, ms=4, capsize=2, label=said,
            )  # fmt: skip
        axes.legend(frameon=False)
        noise = axis == "log-SNR"
        axes.set_xlabel("← noisier · log signal-to-noise ratio · cleaner →" if noise else axis)
        axes.set_ylabel("loss")

    return draw("gaps", "Loss of held-out and of training items by noise level", paint)
