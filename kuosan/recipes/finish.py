"""The end of a session: weights, measurements, report, model card."""

from __future__ import annotations

import time
from typing import Any

from kuosan.recipes import card, report
from kuosan.recipes.evaluate import EVALUATION, SEED, measure
from kuosan.recipes.session import Session
from kuosan.training.checkpoint import write_bytes, write_json

SUMMARY = "summary.json"  # written last: it says that all else is there
FEWEST, MOST = 64, 1000  # samples that a run is measured on


def finish(session: Session) -> dict[str, Any]:
    """Write what a finished run leaves, within what its budget has left; the summary of it."""
    run, count = session.run, session.training.count
    session.write_weights("best")
    left = session.remaining()
    seconds = 30.0 if left is None else max(4.0, 0.55 * left)
    n = MOST
    if left is not None:
        n = int(max(FEWEST, min(MOST, 0.25 * left / session.seconds_per_sample)))
    n = n // 4 * 4
    started = time.monotonic()
    samples = run.sample(n, seed=SEED)
    found = measure(run, session.data, samples, seconds=seconds, out=run.path / "evaluation")
    sampling = run.facts.recipe.sampling
    about = {
        "samples": n, "steps": sampling.steps, "seed": SEED, "w": sampling.w, "solver": sampling.solver,
        "grid": sampling.grid, "data": session.data.survey.source, "seconds": round(time.monotonic() - started, 2),
    }  # fmt: skip
    result = {**found.to_json(), "about": about}
    write_json(run.path / EVALUATION, result)
    path = report.write(session, samples, found)
    summary = {
        "run": str(run.path),
        "steps": count.step,
        "seconds": round(count.seconds, 2),
        "stopped": "early"
        if count.events and "stopped early" in count.events[-1]
        else "at the end of the budget",
        "skipped_steps": count.skipped,
        "best_step": count.best_step or None,
        "val_loss": count.best_loss if count.best_step else None,
        "metrics": result["metrics"],
        "report": str(path),
    }
    write_bytes(run.path / "README.md", card.card(session, summary).encode())
    write_json(run.path / SUMMARY, summary)
    return summary
