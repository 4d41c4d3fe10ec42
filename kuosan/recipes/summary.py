"""The summary of a finished run: what every kind of data has in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kuosan.recipes import average
from kuosan.recipes.session import Session

SUMMARY = "summary.json"  # written last: it says that all else is there


def summary_of(session: Session, result: Mapping[str, Any], report: Path) -> dict[str, Any]:
    """Counts, times, losses, metrics."""
    count = session.training.count
    averaged = average.chosen(session.run.path)
    early = any("stopped early" in event for event in count.events)
    return {
        "run": str(session.run.path),
        "steps": count.step,
        "seconds": round(session.seconds, 2),
        "stopped": "early" if early else "at the end of the budget",
        "skipped_steps": count.skipped,
        "best_step": count.best_step or None,
        "val_loss": count.best_loss if count.best_step else None,
        **({"ema": averaged["chosen"]} if averaged else {}),
        "metrics": result["metrics"],
        "verdict": result["verdict"],
        **({"baselines": result["baselines"]} if "baselines" in result else {}),
        **({"drift": result["drift"]} if "drift" in result else {}),
        **({"pairs": session.lessons.count} if session.lessons else {}),
        **(
            {"codec": result["codec"], "codec_steps": session.coding.steps}
            if "codec" in result and session.coding
            else {}
        ),
        "report": str(report),
    }
