"""What a report says about a likelihood: how surprised the model is, and by what.

The facts are plain: ``metrics`` (as everywhere), what `Likelihood.to_json` gives, and pictures of the items that
surprised the model most and least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kuosan.evaluation.report_words import count, error, metric_title, number, usable

ARMS = (
    ("smaller", "as if data were one point"),
    ("larger", "as if data had unit variance"),
    ("optimal", "measured"),
)
TERMS = (
    ("distortion", "what the codec's decoder does not bring back"),
    ("entropy", "less what its encoder leaves open"),
    ("prior", "what is left of the data in pure noise"),
    ("diffusion", "all that happens between"),
    ("reconstruction", "the last details"),
)


def likelihood_view(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The facts arranged for reading; None where there are none.

    Args:
        facts: see the module.
    """
    if not facts:
        return None
    metrics: Mapping[str, Mapping[str, Any]] = facts["metrics"]
    unit = "bits" if facts["unit"].startswith("bits") else "nats"
    terms = facts["terms"]
    return {
        "unit": facts["unit"],
        "metrics": [
            {"title": metric_title(name, "")[0], "value": _value(m), "n": count(m["n"]), "note": m["note"]}
            for name, m in metrics.items()
        ],
        "terms": [(name, what, _value(terms[name])) for name, what in TERMS if name in terms],
        "steps": [
            (
                k,
                [
                    (_value(arms[name]), _gain(arms[name], unit) if name != "optimal" else "")
                    for name, _ in ARMS
                ],
            )
            for k, arms in facts["steps"].items()
        ],
        "arms": ARMS,
        "sentences": _sentences(facts, metrics, unit),
    }


def _sentences(
    facts: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]], unit: str
) -> Sequence[str]:
    out = []
    prefix = "bits" if unit == "bits" else "nll"
    bound, train = metrics[f"{prefix}_bound"], metrics.get(f"{prefix}_train")
    if facts.get("lzma"):
        out.append(
            f"LZMA, a compressor that learns nothing beforehand, takes {number(facts['lzma'])} bits for the same items."
        )
    if train and usable(bound["stderr"]) and usable(train["stderr"]):
        gap = bound["value"] - train["value"]
        spread = (bound["stderr"] ** 2 + train["stderr"] ** 2) ** 0.5
        what = "than items that it was trained on"
        more = f"{number(gap, spread)} ± {error(spread)} {unit}"
        out.append(
            f"Held-out items take {more} more {what}: so much of those was learned by heart."
            if gap > 2 * spread
            else f"Held-out items take no more {what}, within the errors: nothing was learned by heart."
        )
    free, strata = facts.get("independent_times"), facts.get("stratified_times")
    if usable(free) and usable(strata):
        ratio = (free / strata) ** 2
        out.append(
            f"Times were drawn in strata, which leaves {number(strata)} {unit} of chance in one item's value where "
            f"independent ones leave {number(free)}: as good as {ratio:.1f} times the calls."
        )
    return out


def _value(m: Mapping[str, Any]) -> str:
    return number(m["value"], m["stderr"]) + (f" ± {error(m['stderr'])}" if usable(m["stderr"]) else "")


def _gain(arm: Mapping[str, float], unit: str) -> str:
    gain, spread = arm["gain"], arm["gain_stderr"]
    return f"optimal is {number(gain, spread)}{f' ± {error(spread)}' if usable(spread) else ''} {unit} better"
