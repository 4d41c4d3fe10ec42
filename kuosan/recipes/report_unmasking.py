"""The report's section of the unmasking schedule: what parallel steps cost, and how many tokens each of them writes."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Any

from kuosan.core.unmasking import UnmaskingProfile, cosine_counts, linear_counts
from kuosan.evaluation.plots import FIRST, MUTED, SECOND, draw
from kuosan.evaluation.report_section import Section
from kuosan.evaluation.report_words import error, number

if TYPE_CHECKING:
    from kuosan.recipes.tune_texts import Estimate, Judged, TunedTexts

STEPS = (4, 8, 16, 32, 64, 128)
NAMES = {"optimal": "fitted", "linear": "even", "cosine": "cosine", "random": "even at random places"}


def section(profile: UnmaskingProfile, tuned: TunedTexts | None = None) -> Section | None:
    """Of a profile, and of what `kuosan tune` found besides; None where texts are too short to have a schedule."""
    steps = [one.steps for one in tuned.judged] if tuned else [k for k in STEPS if k <= len(profile.nats)]
    if not steps:
        return None
    spaced = ", far apart from one another," if profile.order == "spaced" else ""
    lead = [
        (
            f"A step writes many tokens at once{spaced} each as if the others of that step were not there. What that "
            "costs is known beforehand, from what held-out tokens cost that are written together, and the schedule "
            "with the least cost is found exactly. Bits per token:"
        ),
        "; ".join(_least(profile, k) for k in steps) + "."
        if tuned is None
        else "; ".join(_judged(one) for one in tuned.judged) + ".",
    ]
    if tuned:
        lead.append(
            f"Fitted to {tuned.fitted:,} held-out passages and judged on {tuned.n:,} others, with the standard error "
            "of the difference, passage by passage; the cheapest is what samples of so many steps use."
        )
    return Section(
        "unmasking", "Schedule", "How many tokens each step writes", lead,
        [("What a token costs that is written next, by the share of text that is there.", _profile_chart(profile)),
         ("Share of the text that is written after each step.", _counts_chart(profile, steps[len(steps) // 2]))],
    )  # fmt: skip


def plus_minus(m: Estimate) -> str:
    """With its error."""
    return f"{number(m.value, m.stderr)} ± {error(m.stderr)}"


def _least(profile: UnmaskingProfile, k: int) -> str:
    bits = profile.cost(profile.counts(k)) / profile.length / log(2)
    return f"{k} steps {bits:.3f}"


def _judged(one: Judged) -> str:
    others = ", ".join(f"{NAMES[name]} {plus_minus(m)} more" for name, m in one.saving.items())
    kept = "" if one.kept == "optimal" else f", so that {NAMES[one.kept]} is kept"
    return f"{one.steps} steps {plus_minus(one.bits['optimal'])} ({others}){kept}"


def _profile_chart(profile: UnmaskingProfile) -> str:
    def paint(axes: Any) -> None:
        bits = (profile.per_token() / log(2)).tolist()
        shares = [n / profile.length for n in profile.levels]
        axes.stairs(bits, shares, color=FIRST, lw=2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("share of the text that is written")
        axes.set_ylabel("bits per token")

    return draw("profile", "What a token costs", paint)


def _counts_chart(profile: UnmaskingProfile, k: int) -> str:
    length = profile.length

    def paint(axes: Any) -> None:
        for counts, colour, name in (
            (profile.counts(k), FIRST, "fitted"),
            (linear_counts(length, k), MUTED, "even"),
            (cosine_counts(length, k), SECOND, "cosine"),
        ):
            axes.plot(
                range(k + 1), (counts / length).tolist(), color=colour, lw=2, marker="o", ms=3, label=name
            )
        axes.set_xlabel(f"step of {k}")
        axes.set_ylabel("share written")
        axes.legend(frameon=False)

    return draw("unmasking", "The unmasking schedule", paint)
