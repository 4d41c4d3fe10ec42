"""The end of a session over texts: weights, unmasking schedule, bound, samples, report, model card."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from kuosan.adapt.unmasking import measure_profile
from kuosan.core.random import Seeds
from kuosan.evaluation.base import Measurement
from kuosan.recipes import card, text_report
from kuosan.recipes.evaluate import EVALUATION, SEED
from kuosan.recipes.run import Run
from kuosan.recipes.session import Session
from kuosan.recipes.summary import SUMMARY, summary_of
from kuosan.recipes.text_measure import baselines, bound, chosen, identifiers, measure_texts
from kuosan.recipes.tokens import PROFILE, order_of
from kuosan.training.checkpoint import write_bytes, write_json

FEWEST, MOST = 32, 256  # samples that a run is measured on
PROFILE_TEXTS = 64


def finish_texts(session: Session) -> dict[str, Any]:
    """Write what a finished run leaves, within what its budget has left; the summary of it."""
    run, data = session.run, session.data
    session.write_weights("best")
    left = session.remaining()
    keep_unmasking(run, session)
    n = MOST if left is None else int(max(FEWEST, min(MOST, 0.3 * left / session.seconds_per_sample)))
    started = time.monotonic()
    samples = run.sample(n // 4 * 4, seed=SEED)
    seconds = 30.0 if left is None else max(4.0, 0.3 * left)
    found = measure_texts(run, data, samples, seconds=seconds, out=run.path / "evaluation")
    surprise: dict[str, Measurement] = {}
    others: Mapping[str, float] = {}
    if len(data.val):
        few = 400 if left is None else int(max(32, min(1000, 8 * left)))
        surprise = bound(run, data.val, few) | bound(run, data.train, few // 2, side="_train")
        others = baselines(data)
    about = {
        "samples": len(samples), "seed": SEED, **run.sampler(), "data": data.survey.source,
        "seconds": round(time.monotonic() - started, 2),
    }  # fmt: skip
    scanned = identifiers(run, data, samples)
    result = {**found.to_json(), "identifiers": scanned, "baselines": dict(others), "about": about}
    result["metrics"] |= {name: m.to_json() for name, m in surprise.items()}
    write_json(run.path / EVALUATION, result)
    path = text_report.write(session, samples, found, surprise, others, scanned)
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
    split = session.data.val if len(session.data.val) >= 8 else session.data.train
    items = chosen(run, split, PROFILE_TEXTS)
    x, cond = items.batch(torch.arange(len(items)))
    device = next(run.model.parameters()).device
    cond = {k: v.to(device) for k, v in cond.items()}
    seeds = Seeds.of(0, len(x)).fold("unmasking")
    profile = measure_profile(run.model, x.to(device), seeds, order=order_of(run), **cond)  # type: ignore[arg-type]
    write_json(run.path / PROFILE, profile.to_json())
