"""The end of a session over tokens on a grid: weights, unmasking schedule, bound, samples, report, model card."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kuosan.evaluation.base import Measurement
from kuosan.recipes import (
    average,
    card,
    music_report,
    plans_report,
    report_levels,
    voxels_report,
)
from kuosan.recipes.evaluate import EVALUATION, SEED
from kuosan.recipes.masked_measure import MEASURES
from kuosan.recipes.masked_report import Told
from kuosan.recipes.music_heat import keep_heat
from kuosan.recipes.music_revise import COST, keep_allowed
from kuosan.recipes.report import verdict_of
from kuosan.recipes.run import Run
from kuosan.recipes.session import Session
from kuosan.recipes.summary import SUMMARY, summary_of
from kuosan.recipes.text_finish import keep_unmasking
from kuosan.training.checkpoint import write_bytes, write_json

FEWEST = 32  # samples that a run is measured on
SHARE = 0.3  # of the time that is left, for drawing them
LEVELS_SECONDS = 1.0  # for the losses by level of noise


@dataclass(frozen=True)
class Own:
    """What the end of a session has of its own.

    Args:
        few: items of a split whose surprise is measured where no time is set, most ever, and of each second that is
            left.
        write: the report.
        settled: what else is settled once the schedule is known.
        most: samples that are drawn and measured. cost: of one, in walks of the sampler.
    """

    few: tuple[int, int, float]
    write: Callable[[Session, Told], Path]
    settled: Callable[[Run, Session], Any] = lambda run, session: None
    most: int = 256
    cost: float = 1.0


def _settle_music(run: Run, session: Session) -> None:
    keep_allowed(run, session)
    keep_heat(run, session)


OWN = {
    "music": Own((400, 1000, 8.0), music_report.write, _settle_music, cost=COST),
    "plan": Own((200, 500, 4.0), plans_report.write),
    "voxels": Own((64, 200, 1.0), voxels_report.write, most=96),
}


def finish_masked(session: Session) -> dict[str, Any]:
    """Write what a finished run leaves, within what its budget has left; the summary of it."""
    run, data = session.run, session.data
    own, measures = OWN[run.modality.name], MEASURES[run.modality.name]
    average.choose(session, session.share(average.SHARE))
    session.write_weights("best")
    left = session.remaining()
    keep_unmasking(run, session)
    own.settled(run, session)
    n = (
        own.most
        if left is None
        else int(max(FEWEST, min(own.most, SHARE * left / (own.cost * session.seconds_per_sample))))
    )
    started = time.monotonic()
    samples = run.sample(n // 4 * 4, seed=SEED)
    found = measures.measure(run, data, samples, out=run.path / "evaluation")
    surprise: dict[str, Measurement] = {}
    others: dict[str, float] = {}
    if len(data.val):
        usual, most, rate = own.few
        few = usual if left is None else int(max(32, min(most, rate * left)))
        surprise = measures.bound(run, data.val, few) | measures.bound(
            run, data.train, few // 2, side="_train"
        )
        others = measures.baselines(data) if measures.baselines else {}
    about = {
        "samples": len(samples), "seed": SEED, **run.sampler(), "data": data.survey.source,
        "seconds": round(time.monotonic() - started, 2),
    }  # fmt: skip
    result = {**found.to_json(), "baselines": others, "about": about}
    result["metrics"] |= {name: m.to_json() for name, m in surprise.items()}
    levels = report_levels.levels_of(session, LEVELS_SECONDS)
    verdict = verdict_of(session, result["metrics"], levels)
    result |= {"levels": levels, "verdict": [f.to_json() for f in verdict]}
    write_json(run.path / EVALUATION, result)
    more = report_levels.levels_section(levels, run.modality.noun)
    path = own.write(session, Told(samples, found, surprise, others, verdict, more))
    summary = summary_of(session, result, path)
    write_bytes(run.path / "README.md", card.card(session, summary).encode())
    write_json(run.path / SUMMARY, summary)
    return summary
