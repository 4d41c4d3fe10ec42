"""What `kuosan sample` can be asked of floor plans: rooms, who is joined to whom, an area, an outline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuosan.errors import UserError

if TYPE_CHECKING:
    from kuosan.recipes.run import Run
    from kuosan.recipes.tokens import Rules

NAMES = ("rooms", "graph", "area", "outline")


def plan_rules(run: Run, plan: dict[str, Any], others: dict[str, Any], where: dict[str, str]) -> Rules | None:
    """What plans must keep to; None where nothing is asked.

    Raises:
        UserError: wishes about other kinds of data, or what `recipes.plans_wishes.understood` raises.
    """
    if asked := next((name for name, value in others.items() if value), None):
        raise UserError(
            f"--{asked.replace('_', '-')} is not for plans, which {run.path} draws: leave it away, or give --rooms, "
            "--graph, --area or --outline"
        )
    from kuosan.recipes.plans_wishes import PlanWishes, rules_of_plans

    return rules_of_plans(run, PlanWishes(**plan), where)


def no_plans(run: Path, plan: dict[str, Any]) -> None:
    """UserError where wishes about plans are asked of something else."""
    if asked := next((name for name in NAMES if plan[name] is not None), None):
        raise UserError(f"--{asked} is for floor plans, and {run} is no model of them: leave it away")


def about_wishes(rules: Rules | None) -> tuple[str, dict[str, Any]]:
    """How many candidates kept the wishes, and how many plans do now."""
    told = getattr(rules.canvas, "told", {}) if rules is not None else {}
    if not told:
        return "", {}
    text = (
        f"\n{told['met']:,} of {told['samples']:,} plans keep all that was asked ({told['kept']:,} of "
        f"{told['candidates']:,} candidates did as they were drawn)."
    )
    return text, {"wishes": dict(told)}
