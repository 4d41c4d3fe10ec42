"""The report of a run over plans: plans to look at, their rooms and areas beside real ones, what it copied."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from kuosan.evaluation.plan import Portrait
from kuosan.evaluation.plots import FIRST, SECOND, draw
from kuosan.evaluation.report_section import Section
from kuosan.evaluation.report_words import number
from kuosan.modalities.plan_draw import plan_picture
from kuosan.recipes.masked_report import Told, copied, page, schedule
from kuosan.recipes.plans_measure import MOST_REAL, plans_of, portraits
from kuosan.recipes.report_bits import by_heart
from kuosan.recipes.session import Session
from kuosan.recipes.text_measure import chosen

SHOWN, COMPARED = 16, 500


def write(session: Session, told: Told) -> Path:
    """``report.html`` of a run over plans."""
    run, form = session.run, plans_of(session.run).form
    headlines = []
    if m := told.surprise.get("bits_per_room"):
        headlines.append(
            f"Held-out plans cost at most {number(m.value, m.stderr)} bits per room ({m.n:,} plans)."
        )
    if m := told.found.metrics.get("valid"):
        headlines.append(
            f"{m.value:.0%} of {m.n:,} states kept all rules of a plan as the model wrote them; what is written to "
            "files always does, as the rest is mended."
        )
    mine = portraits(run, told.samples.x)
    items = chosen(run, session.data.train, COMPARED)
    real = portraits(run, items.batch(torch.arange(len(items)))[0])
    rooms = _rooms(mine, real, form.step)
    sections = [*([rooms] if rooms else []), *told.more, *schedule(session)]
    if notes := by_heart("plans", told.surprise.get("bits_per_room_train")):
        sections.append(Section("heart", "By heart", "What it knows by heart", notes, []))
    sections += copied(
        session, told, MOST_REAL, plan_picture,
        lambda distance: f"{distance:.0%} of the area differs, in the best of 8 views",
        lambda usual: "The samples that are nearest to training, mirrored and turned if need be. Of held-out plans "
        f"1 % come nearer than {usual:.0%}.",
    )  # fmt: skip
    return page(
        session,
        told,
        what="floor plans",
        process=f"rooms on a grid of {form.rows}×{form.columns} cells",
        items="plans",
        headlines=headlines,
        shown=told.samples.raws(SHOWN),
        sections=sections,
    )


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
