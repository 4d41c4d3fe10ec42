"""What reports of runs over tokens on a grid have in common."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Evaluation
from kuosan.evaluation.report import ReportFacts, write_report
from kuosan.evaluation.report_section import Section
from kuosan.evaluation.verdict import Finding
from kuosan.recipes import machine
from kuosan.recipes.cite import citations
from kuosan.recipes.heat import sampled_in_words
from kuosan.recipes.report import command, events, log_rows, origin_of, preview_pictures
from kuosan.recipes.report_unmasking import section
from kuosan.recipes.run import Samples
from kuosan.recipes.session import METRICS, Session
from kuosan.recipes.text_measure import chosen
from kuosan.recipes.tokens import read_unmasking
from kuosan.training.budget import clock

COPIED = 4


@dataclass(frozen=True)
class Told:
    """What a run was found to be: its samples, what they measure, the bits that items cost, those of counting, the
    verdict, and sections of other methods."""

    samples: Samples
    found: Evaluation
    surprise: Mapping[str, Measurement]
    others: Mapping[str, float]
    verdict: Sequence[Finding]
    more: Sequence[Section]


def page(
    session: Session,
    told: Told,
    *,
    what: str,
    process: str,
    items: str,
    headlines: Sequence[str],
    shown: Sequence[Any],
    sections: Sequence[Section],
    shows: Sequence[Section] = (),
    nearest: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """``report.html`` of a model of ``what``, trained by a ``process`` on ``items``."""
    run, data, facts = session.run, session.data, session.run.facts
    survey = data.survey.to_json()
    survey.pop("notes", None)
    begun = (
        f"{origin_of(facts)} (masked diffusion of {process}) on {facts.items:,} {items}, in {clock(session.seconds)} "
        f"and {session.training.count.step:,} steps of training."
    )
    return write_report(
        ReportFacts(
            title=Path(data.survey.source).resolve().stem.replace("_", " "),
            subtitle=f"A model of {what}, and how far to trust it",
            created=datetime.date.today().isoformat(),
            command=command(session),
            headlines=[begun, f"{sampled_in_words(run.sampler())}; none is picked.", *headlines],
            verdict=told.verdict,
            samples=[("all at a glance", run.modality.show(shown))],
            survey=survey,
            choices=facts.choices,
            previews=preview_pictures(run.path / "samples"),
            log=log_rows(run.path / METRICS),
            metrics=told.found.to_json()["metrics"],
            left_out=told.found.left_out,
            shows=list(shows),
            nearest=nearest,
            sections=list(sections),
            events=events(session),
            environment=machine.facts(),
            citations=citations(run),
            noun=run.modality.noun,
        ),
        run.path / "report.html",
    )


def schedule(session: Session) -> list[Section]:
    """The unmasking schedule, where there is one."""
    profile = read_unmasking(session.run.path)
    return [s for s in (section(profile) if profile else None,) if s]


def copied(
    session: Session,
    told: Told,
    most: int,
    draw: Callable[[Any], Image.Image],
    words: Callable[[float], str],
    lead: Callable[[float], str],
) -> list[Section]:
    """The samples that are nearest to training, each above what it is near to; of the first ``most`` items training was
    searched in."""
    if not told.found.nearest:
        return []
    run, samples = session.run, told.samples
    noun, one = run.modality.noun, run.modality.noun.removesuffix("s")
    items = chosen(run, session.data.train, most)

    def drawn(x: Tensor, cond: Mapping[str, Tensor]) -> Image.Image:
        return draw(Samples(x, dict(cond), 0, run.modality, None, run.facts.columns).raws()[0])

    figures: list[Any] = []
    for row in told.found.nearest[:COPIED]:
        own = slice(row.sample, row.sample + 1)
        mine = drawn(samples.x[own], {k: v[own] for k, v in samples.cond.items()})
        figures.append((f"sample {row.sample}", mine))
        figures.append(
            (
                f"its nearest {one} of training: {words(row.distance)}",
                drawn(*items.batch(torch.tensor([row.train]))),
            )
        )
    return [
        Section(
            "copies", f"Nearest {noun}", "What it copied", [lead(told.found.nearest[0].threshold)], figures
        )
    ]
