"""The end of a session: weights, measurements, report, model card."""

from __future__ import annotations

import time
from typing import Any

import torch

from kuosan.errors import UserError
from kuosan.evaluation.likelihood import Effort, Likelihood
from kuosan.evaluation.report_section import Section
from kuosan.recipes import average, card, heard, report, report_drift, report_levels, sequences
from kuosan.recipes.ceiling import ceiling
from kuosan.recipes.evaluate import EVALUATION, FEWEST_FREE, FREE, SEED, measure, unasked, with_likelihood
from kuosan.recipes.judged import beside_section
from kuosan.recipes.likelihood import keep_variances, likelihood
from kuosan.recipes.masked_finish import OWN as MASKED
from kuosan.recipes.masked_finish import finish_masked
from kuosan.recipes.pace import WRITTEN, cost_of
from kuosan.recipes.profile import CALLS, keep_profile
from kuosan.recipes.report_average import average_section
from kuosan.recipes.report_decided import decided
from kuosan.recipes.report_residual import residual
from kuosan.recipes.report_returned import returned
from kuosan.recipes.report_shapes import shapes_section
from kuosan.recipes.session import Session
from kuosan.recipes.summary import SUMMARY, summary_of
from kuosan.recipes.text_finish import finish_texts
from kuosan.training.checkpoint import write_bytes, write_json

FEWEST, MOST = 64, 1000  # samples that a run is measured on
PER_SECOND = 24  # of what is left of a budget: measuring is half of an end, and most of it grows with them
MEASURING = 30.0  # seconds that measuring may take on two slow cores, where no budget of time says
MOST_NUMBERS = 2**26  # in them: 341 colour pictures of 256×256
FEWEST_REAL, MOST_REAL, REAL_PER_SECOND = 2000, 20_000, 700  # real items, by the time that measuring has
SHARE, LONGEST = 0.15, 30.0  # of what measuring left, and in seconds, for each section of its own
OWN = {"text": finish_texts, **dict.fromkeys(MASKED, finish_masked)}  # modalities whose end is another
_STUDENT = "a student knows a few levels of noise, and its likelihood takes all of them: ask its teacher"


def finish(session: Session) -> dict[str, Any]:
    """Write what a finished run leaves, within what its budget has left; the summary of it."""
    if own := OWN.get(session.run.modality.name):
        return own(session)
    run, cost = session.run, cost_of(session.data)
    average.choose(session, session.share(average.SHARE))
    session.write_weights("best")
    _choose_sampler(session)
    left = session.remaining()
    n = MOST
    if left is not None:
        n = int(max(FEWEST, min(MOST, 0.25 * left / session.seconds_per_sample, PER_SECOND * left)))
    n = min(n, MOST_NUMBERS // torch.Size(run.shape).numel()) // 4 * 4
    started = time.monotonic()
    student = bool(session.lessons)
    effort = None if student else _effort(session, 0.1)
    if effort is not None:
        keep_variances(run, session.data, effort.fitted, effort.levels)
    if not student and (run.variances is not None or _affords(session, CALLS)):
        keep_profile(run, session.data)
    samples = run.sample(n, seed=SEED)
    spare = session.remaining(cost)  # the rest is done whatever it takes
    seconds, most = MEASURING, MOST_REAL
    if spare is not None:
        seconds = max(1.0, 0.6 * spare / session.pace.slowness)
        most = int(max(FEWEST_REAL, min(MOST_REAL, REAL_PER_SECOND * seconds)))
    free = unasked(run, max(FEWEST_FREE, n // FREE))
    found = measure(
        run, session.data, samples, seconds=seconds, most=most, free=free, out=run.path / "evaluation"
    )
    found = heard.with_recall(found, run, session.data, seconds=seconds / 2, most=_asked(session))
    roof = ceiling(run, session.data, run.path / "evaluation")
    about = {
        "samples": n, "seed": SEED, **run.sampler(), "data": session.data.survey.source,
        "seconds": round(time.monotonic() - started, 2),
    }  # fmt: skip
    surprise = _STUDENT if student else _likelihood(session, _effort(session, 0.6, WRITTEN))
    result = with_likelihood(
        {**found.to_json(), **({"codec": roof.to_json()} if roof else {}), "about": about}, surprise
    )
    drift = report_drift.drift_of(session)
    levels = report_levels.levels_of(session, _seconds(session))
    captions = heard.section(run, session.data.val)
    sections = [*captions, *report_drift.section(session, drift), *([] if student else _sections(session))]
    verdict = report.verdict_of(session, result["metrics"], levels)
    result |= {**report_drift.told(drift), "levels": levels, "verdict": [f.to_json() for f in verdict]}
    write_json(run.path / EVALUATION, result)
    path = report.write(session, samples, found, surprise, verdict, levels, sections, roof)
    summary = summary_of(session, result, path)
    write_bytes(run.path / "README.md", card.card(session, summary).encode())
    write_json(run.path / SUMMARY, summary)
    if session.lessons:
        session.lessons.forget()
    return summary


def _asked(session: Session) -> int:
    """How many samples for held-out captions a budget of time allows."""
    left = session.share(0.1)
    return (
        heard.MOST if left is None else int(max(FEWEST, min(heard.MOST, left / session.seconds_per_sample)))
    )


def _choose_sampler(session: Session) -> None:
    """Measure which stock sampler suits this model, where there is time for it; the recipe's own stands otherwise."""
    run, left = session.run, session.remaining()
    sampling = run.facts.recipe.sampling
    if not (sequences.free(run) and sequences.chooses(run, sampling.steps)):
        return
    per_call = session.seconds_per_sample / sampling.steps
    if left is None or sequences.calls(sampling.steps) * per_call < SHARE * left:
        sequences.measured(run, sampling.steps, sampling.w)
    else:
        sequences.unmeasured(run)


def _affords(session: Session, calls: int) -> bool:
    """Whether so many calls of the network take no more than their share of what the budget has left."""
    left = session.remaining()
    per_call = session.seconds_per_sample / session.facts.recipe.sampling.steps
    return left is None or calls * per_call < SHARE * left


def _effort(session: Session, share: float, cost: float = 0.0) -> Effort | None:
    """What a look at the likelihood may take: a share of what the budget has left after work of this cost."""
    left = session.remaining(cost)
    if left is None:
        return Effort.short()
    per_call = session.seconds_per_sample / session.facts.recipe.sampling.steps
    return Effort.within(share * left / per_call)


def _likelihood(session: Session, effort: Effort | None) -> Likelihood | str:
    """The likelihood, or why there is none."""
    if effort is None:
        return f"no time was left for it: run `kuosan evaluate {session.run.path} --likelihood`"
    try:
        return likelihood(session.run, session.data, effort, out=session.run.path / "evaluation")
    except UserError as e:
        return str(e)


def _seconds(session: Session) -> float:
    """What one more look at the run may take."""
    left = session.remaining(WRITTEN)
    return LONGEST if left is None else min(LONGEST, SHARE * left)


def _sections(session: Session) -> list[Section]:
    """What other methods show of the run, each within its share of the time that is left."""
    run, seconds = session.run, _seconds(session)
    found = [show(run, session.data.val, seconds) for show in (returned, residual)]
    own = (beside_section(run, session.data.val), shapes_section(run, session.data.train))
    made = (*own, average_section(run.path), decided(run, session.training.objective.timing), *found)
    return [section for section in made if section]
