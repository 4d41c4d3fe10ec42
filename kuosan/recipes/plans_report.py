"""The report of a run over plans: plans to look at, their rooms and areas beside real ones, what it copied."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Evaluation
from kuosan.evaluation.plan import Portrait
from kuosan.evaluation.plots import FIRST, SECOND, draw
from kuosan.evaluation.report import ReportFacts, write_report
from kuosan.evaluation.report_section import Section
from kuosan.evaluation.report_words import number
from kuosan.evaluation.verdict import Finding
from kuosan.modalities.plan_draw import plan_picture
from kuosan.recipes import machine
from kuosan.recipes.cite import citations
from kuosan.recipes.heat import sampled_in_words
from kuosan.recipes.plans_measure import MOST_REAL, plans_of, portraits
from kuosan.recipes.report import command, events, log_rows, preview_pictures
from kuosan.recipes.report_bits import by_heart
from kuosan.recipes.report_unmasking import section
from kuosan.recipes.run import Samples
from kuosan.recipes.session import METRICS, Session
from kuosan.recipes.text_measure import chosen
from kuosan.recipes.tokens import read_unmasking
from kuosan.training.budget import clock

SHOWN, COPIED, COMPARED = 16, 4, 500


def write(
    session: Session,
    samples: Samples,
    found: Evaluation,
    surprise: Mapping[str, Measurement],
    verdict: Sequence[Finding],
    more: Sequence[Section],
) -> Path:
    """``report.html`` of a run over plans, with its verdict and ``more`` sections of other methods."""
    run, data, count = session.run, session.data, session.training.count
    facts, form = run.facts, plans_of(run).form
    survey = data.survey.to_json()
    survey.pop("notes", None)
    plans = samples.raws(SHOWN)
    origin = f"Started from {facts.recipe.init} and trained" if facts.recipe.init else "Trained from scratch"
    headlines = [
        (
            f"{origin} (masked diffusion of rooms on a grid of {form.rows}×{form.columns} cells) on {facts.items:,} "
            f"plans, in {clock(session.seconds)} and {count.step:,} steps of training."
        ),
        f"{sampled_in_words(run.sampler())}; none is picked.",
    ]
    if m := surprise.get("bits_per_room"):
        headlines.append(
            f"Held-out plans cost at most {number(m.value, m.stderr)} bits per room ({m.n:,} plans)."
        )
    if m := found.metrics.get("valid"):
        headlines.append(
            f"{m.value:.0%} of {m.n:,} states kept all rules of a plan as the model wrote them; what is written to "
            "files always does, as the rest is mended."
        )
    mine = portraits(run, samples.x)
    items = chosen(run, data.train, COMPARED)
    real = portraits(run, items.batch(torch.arange(len(items)))[0])
    sections = [s for s in (_rooms(mine, real, form.step), *more, _schedule(session)) if s]
    if notes := by_heart("plans", surprise.get("bits_per_room_train")):
        sections.append(Section("heart", "By heart", "What it knows by heart", notes, []))
    sections += _copied(session, samples, found)
    page = ReportFacts(
        title=Path(data.survey.source).resolve().stem.replace("_", " "),
        subtitle="A model of floor plans, and how far to trust it",
        created=datetime.date.today().isoformat(),
        command=command(session),
        headlines=headlines,
        verdict=verdict,
        samples=[("all at a glance", run.modality.show(plans))],
        survey=survey,
        choices=facts.choices,
        previews=preview_pictures(run.path / "samples"),
        log=log_rows(run.path / METRICS),
        metrics=found.to_json()["metrics"],
        left_out=found.left_out,
        sections=sections,
        events=events(session),
        environment=machine.facts(),
        citations=citations(run),
        noun="plans",
    )
    return write_report(page, run.path / "report.html")


def _rooms(mine: list[Portrait], real: list[Portrait], step: float | None) -> Section | None:
    """How many rooms of each use a plan has, and how large they are."""
    if not mine or not real:
        return None
    names = sorted({name for p in real for name in p.rooms})

    def counts(plans: list[Portrait]) -> list[float]:
        return [sum(p.rooms.count(name) for p in plans) / len(plans) for name in names]

    def sizes(plans: list[Portrait]) -> list[float]:
        found: dict[str, list[float]] = defaultdict(list)
        for p in plans:
            for name, area in zip(p.rooms, p.areas, strict=True):
                found[name].append(area * step**2 if step else 100 * area / p.area)
        return [float(torch.tensor(found[name]).median()) if found[name] else 0.0 for name in names]

    def bars(what: str, one: list[float], two: list[float], unit: str) -> str:
        def paint(axes: Any) -> None:
            for k, (colour, values) in enumerate(((FIRST, two), (SECOND, one))):
                at = [i + (0.2 if k else -0.2) for i in range(len(names))]
                axes.barh(at, values, 0.38, color=colour, alpha=0.85, label="samples" if k else "real plans")
            axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
            axes.set_xlabel(unit)
            axes.legend(frameon=False, fontsize=8)

        return draw(what, what.capitalize(), paint, height=0.3 * len(names) + 0.9)

    unit = "square metres (median)" if step else "% of the plan (median)"
    figures = [
        ("", bars("rooms", counts(mine), counts(real), "rooms of a plan (mean)")),
        ("", bars("areas", sizes(mine), sizes(real), unit)),
    ]
    lead = [f"{len(mine)} samples beside {len(real)} training plans, by what rooms are for."]
    return Section("rooms", "Rooms", "Rooms and their areas", lead, figures)


def _schedule(session: Session) -> Section | None:
    profile = read_unmasking(session.run.path)
    return None if profile is None else section(profile)


def _copied(session: Session, samples: Samples, found: Evaluation) -> list[Section]:
    """The samples that are nearest to training, each above what it is near to."""
    if not found.nearest:
        return []
    figures: list[Any] = []
    run, split = session.run, session.data.train
    items = chosen(run, split, MOST_REAL)
    for row in found.nearest[:COPIED]:
        x, _ = items.batch(torch.tensor([row.train]))
        pair = run.modality.decode(torch.cat([samples.x[row.sample : row.sample + 1], x]))
        figures.append((f"sample {row.sample}", plan_picture(pair[0])))
        words = (
            f"its nearest plan of training: {row.distance:.0%} of the area differs, in the best of 8 views"
        )
        figures.append((words, plan_picture(pair[1])))
    lead = [
        (
            f"The samples that are nearest to training, mirrored and turned if need be. Of held-out plans 1 % come "
            f"nearer than {found.nearest[0].threshold:.0%}."
        )
    ]
    return [Section("copies", "Nearest plans", "What it copied", lead, figures)]
