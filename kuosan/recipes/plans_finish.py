"""The end of a session over plans: weights, unmasking schedule, bound, samples, report, model card."""

from __future__ import annotations

import time
from typing import Any

from kuosan.evaluation.base import Measurement
from kuosan.recipes import average, card, plans_report, report_levels
from kuosan.recipes.evaluate import EVALUATION, SEED
from kuosan.recipes.plans_measure import bound, measure_plans
from kuosan.recipes.report import verdict_of
from kuosan.recipes.session import Session
from kuosan.recipes.summary import SUMMARY, summary_of
from kuosan.recipes.text_finish import keep_unmasking
from kuosan.training.checkpoint import write_bytes, write_json

FEWEST, MOST = 32, 256  # samples that a run is measured on
LEVELS_SECONDS = 1.0  # for the losses by level of noise


def finish_plans(session: Session) -> dict[str, Any]:
    """Write what a finished run leaves, within what its budget has left; the summary of it."""
    run, data = session.run, session.data
    average.choose(session, session.share(average.SHARE))
    session.write_weights("best")
    keep_unmasking(run, session)
    left = session.remaining()
    n = MOST if left is None else int(max(FEWEST, min(MOST, 0.4 * left / session.seconds_per_sample)))
    started = time.monotonic()
    samples = run.sample(n // 4 * 4, seed=SEED)
    found = measure_plans(run, data, samples, out=run.path / "evaluation")
    surprise: dict[str, Measurement] = {}
    if len(data.val):
        few = 200 if left is None else int(max(32, min(500, 4 * left)))
        surprise = bound(run, data.val, few) | bound(run, data.train, few // 2, side="_train")
    about = {
        "samples": len(samples), "seed": SEED, **run.sampler(), "data": data.survey.source,
        "seconds": round(time.monotonic() - started, 2),
    }  # fmt: skip
    result = {**found.to_json(), "about": about}
    result["metrics"] |= {name: m.to_json() for name, m in surprise.items()}
    levels = report_levels.levels_of(session, LEVELS_SECONDS)
    verdict = verdict_of(session, result["metrics"], levels)
    result |= {"levels": levels, "verdict": [f.to_json() for f in verdict]}
    write_json(run.path / EVALUATION, result)
    more = report_levels.levels_section(levels, run.modality.noun)
    path = plans_report.write(session, samples, found, surprise, verdict, more)
    summary = summary_of(session, result, path)
    write_bytes(run.path / "README.md", card.card(session, summary).encode())
    write_json(run.path / SUMMARY, summary)
    return summary
