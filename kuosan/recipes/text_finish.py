"""The end of a session over texts: weights, unmasking schedule, bound, samples, report, model card."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from kuosan.adapt.unmasking import measure_profile
from kuosan.core.random import Seeds
from kuosan.evaluation.base import Measurement
from kuosan.recipes import average, card, report_drift, report_levels, text_report
from kuosan.recipes.evaluate import EVALUATION, SEED
from kuosan.recipes.pace import TEXTS, WRITTEN, cost_of
from kuosan.recipes.report import verdict_of
from kuosan.recipes.run import Run
from kuosan.recipes.session import Session
from kuosan.recipes.summary import SUMMARY, summary_of
from kuosan.recipes.text_measure import baselines, bound, chosen, identifiers, measure_texts
from kuosan.recipes.tokens import PROFILE, order_of
from kuosan.training.checkpoint import write_bytes, write_json

FEWEST, MOST = 32, 256  # samples that a run is measured on
PROFILE_TEXTS, PROFILE_TOKENS = 64, 2**18  # at most
PROFILE_SCORES = 2**24  # at a time: 128 MiB in double precision
LEVELS_SECONDS = 1.0  # for the losses by level of noise
AFTER = 9.0  # seconds of work after sampling, n-grams apart


def finish_texts(session: Session) -> dict[str, Any]:
    """Write what a finished run leaves, within what its budget has left; the summary of it."""
    run, data = session.run, session.data
    average.choose(session, session.share(average.SHARE))
    session.write_weights("best")
    keep_unmasking(run, session)
    grams = cost_of(data) - TEXTS
    spare = session.remaining(grams + AFTER)
    n = MOST if spare is None else int(max(FEWEST, min(MOST, 0.6 * spare / session.seconds_per_sample)))
    started = time.monotonic()
    samples = run.sample(n // 4 * 4, seed=SEED)
    left = session.remaining(grams + WRITTEN)
    seconds = 30.0 if left is None else max(2.0, 0.5 * left / session.pace.slowness)
    found = measure_texts(run, data, samples, seconds=seconds, out=run.path / "evaluation")
    surprise: dict[str, Measurement] = {}
    others: Mapping[str, float] = {}
    left_out = {}
    if len(data.val):
        few = 400 if left is None else int(max(32, min(1000, 8 * left / session.pace.slowness)))
        surprise = bound(run, data.val, few) | bound(run, data.train, few // 2, side="_train")
        if left is None or session.remaining(grams + WRITTEN) > 1:  # type: ignore[operator]
            others = baselines(data)
        else:
            left_out["baselines"] = (
                f"no time was left for n-grams: run `kuosan evaluate {run.path} --likelihood`"
            )
    about = {
        "samples": len(samples), "seed": SEED, **run.sampler(), "data": data.survey.source,
        "seconds": round(time.monotonic() - started, 2),
    }  # fmt: skip
    scanned = identifiers(run, data, samples)
    result = {**found.to_json(), "identifiers": scanned, "baselines": dict(others), "about": about}
    result["left_out"] |= left_out
    result["metrics"] |= {name: m.to_json() for name, m in surprise.items()}
    drift = report_drift.drift_of(session)
    levels = report_levels.levels_of(session, LEVELS_SECONDS)
    verdict = verdict_of(session, result["metrics"], levels)
    result |= {**report_drift.told(drift), "levels": levels, "verdict": [f.to_json() for f in verdict]}
    write_json(run.path / EVALUATION, result)
    more = [*report_drift.section(session, drift), *report_levels.levels_section(levels, "texts")]
    path = text_report.write(session, samples, found, surprise, others, scanned, verdict, more)
    summary = summary_of(session, result, path)
    write_bytes(run.path / "README.md", card.card(session, summary).encode())
    write_json(run.path / SUMMARY, summary)
    return summary


def keep_unmasking(run: Run, session: Session) -> None:
    """Measure what tokens cost that are written together, and keep it: the grid ``optimal`` is made of it.

    Only a process whose positions all have one curve leaves the order to the sampler.
    """
    if run.facts.recipe.process.kind != "masked":
        return
    length = run.latent_shape[0]
    split = session.data.val if len(session.data.val) >= 8 else session.data.train
    left, most = session.remaining(), max(8, min(PROFILE_TEXTS, PROFILE_TOKENS // length))
    if left is not None:  # a text costs about as much as a sample
        most = int(max(8, min(most, 0.15 * left / session.seconds_per_sample)))
    items = chosen(run, split, most)
    x, cond = items.batch(torch.arange(len(items)))
    device = next(run.model.parameters()).device
    cond = {k: v.to(device) for k, v in cond.items()}
    seeds = Seeds.of(0, len(x)).fold("unmasking")
    batch = max(1, PROFILE_SCORES // (length * run.facts.network["size"]))
    profile = measure_profile(run.model, x.to(device), seeds, order=order_of(run), batch=batch, **cond)  # type: ignore[arg-type]
    write_json(run.path / PROFILE, profile.to_json())
