"""The report of a run over music: to be heard and seen, how surprised the model is by others' music, what it copied."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Evaluation
from kuosan.evaluation.music.faults import FAULTS
from kuosan.evaluation.plots import FIRST, SECOND, draw
from kuosan.evaluation.report import ReportFacts, write_report
from kuosan.evaluation.report_section import Clip, Section
from kuosan.evaluation.report_words import number
from kuosan.evaluation.verdict import Finding
from kuosan.modalities import Score
from kuosan.modalities.music_draw import piano_roll
from kuosan.modalities.music_sound import RATE, render, wave_bytes
from kuosan.recipes import machine
from kuosan.recipes.cite import citations
from kuosan.recipes.heat import sampled_in_words
from kuosan.recipes.music_measure import MOST_REAL, chosen
from kuosan.recipes.report import command, events, log_rows, preview_pictures
from kuosan.recipes.report_bits import bits_chart, by_heart
from kuosan.recipes.report_unmasking import section
from kuosan.recipes.run import Samples
from kuosan.recipes.session import METRICS, Session
from kuosan.recipes.tokens import read_unmasking
from kuosan.training.budget import clock

HEARD, SHOWN, COPIED = 3, 12, 4
SECONDS = 12.0  # of each sound in the page: half a megabyte


def write(
    session: Session,
    samples: Samples,
    found: Evaluation,
    surprise: Mapping[str, Measurement],
    others: Mapping[str, float],
    verdict: Sequence[Finding],
    more: Sequence[Section],
) -> Path:
    """``report.html`` of a run over music, with its verdict and ``more`` sections of other methods."""
    run, data, count = session.run, session.data, session.training.count
    facts = run.facts
    survey = data.survey.to_json()
    survey.pop("notes", None)
    scores = samples.raws()
    origin = f"Started from {facts.recipe.init} and trained" if facts.recipe.init else "Trained from scratch"
    headlines = [
        (
            f"{origin} (masked diffusion of {run.modality.tokeniser.lanes} voices) on {facts.items:,} passages of "  # type: ignore[attr-defined]
            f"{run.modality.steps} steps, in {clock(session.seconds)} and {count.step:,} steps of training."  # type: ignore[attr-defined]
        ),
        f"{sampled_in_words(run.sampler())}; none is picked.",
    ]
    if m := surprise.get("bits_per_token"):
        per_note = surprise["bits_per_note"]
        headlines.append(
            f"Held-out music costs at most {number(m.value, m.stderr)} bits per token and "
            f"{number(per_note.value, per_note.stderr)} per note ({m.n:,} pieces)."
        )
    made = (_surprise(surprise, others), _faults(found), _schedule(session))
    sections = [*_copied(session, scores, found), *more, *(s for s in made if s)]
    page = ReportFacts(
        title=Path(data.survey.source).resolve().stem.replace("_", " "),
        subtitle="A model of music, and how far to trust it",
        created=datetime.date.today().isoformat(),
        command=command(session),
        headlines=headlines,
        verdict=verdict,
        samples=[("all at a glance", run.modality.show(scores[:SHOWN]))],
        survey=survey,
        choices=facts.choices,
        previews=preview_pictures(run.path / "samples"),
        log=log_rows(run.path / METRICS),
        metrics=found.to_json()["metrics"],
        left_out=found.left_out,
        shows=[s for s in (_heard(scores),) if s],
        sections=sections,
        events=events(session),
        environment=machine.facts(),
        citations=citations(run),
        noun="passages",
    )
    return write_report(page, run.path / "report.html")


def _heard(scores: list[Score]) -> Section | None:
    """The first samples as sound, each with its piano roll."""
    figures: list[Any] = []
    for i, score in enumerate(scores[:HEARD]):
        about = f"number {i}, in {score.key or 'no key'}, {score.tempo:g} quarters a minute"
        figures.append((about, piano_roll(score, 720, 240)))
        figures.append(("", Clip("audio/wav", wave_bytes(render(score, RATE, SECONDS)))))
    lead = [f"The first samples, up to {SECONDS:g} seconds of each, by Kuosan's own synthesiser."]
    return Section("heard", "Listen", "To be heard", lead, figures) if figures else None


def _surprise(surprise: Mapping[str, Measurement], others: Mapping[str, float]) -> Section | None:
    """Bits per token, beside counting."""
    mine = surprise.get("bits_per_token")
    if mine is None:
        return None
    lead = [
        (
            f"Held-out music costs the model at most {number(mine.value, mine.stderr)} bits per token (a bound), "
            f"n = {mine.n:,} pieces, each under its own conditions. Beside it "
            "models that only count: each voice's tokens, each after the one before, and that by the place in the bar."
        )
    ]
    lead += by_heart("music", surprise.get("bits_per_token_train"))
    unit = "bits per token of held-out music"
    figure = bits_chart("this model (at most)", mine, others, "Bits per token", unit)
    return Section("surprise", "Surprise", "How surprised it is by other music", lead, [("", figure)])


def _faults(found: Evaluation) -> Section | None:
    """Voice leading beside that of real music."""
    rows = [(name, found.metrics[f"{name}_per_bar"]) for name in FAULTS if f"{name}_per_bar" in found.metrics]
    if not rows:
        return None

    def paint(axes: Any) -> None:
        for k, (colour, values) in enumerate(
            ((SECOND, [m.value for _, m in rows]), (FIRST, [m.floor or 0.0 for _, m in rows]))
        ):
            at = [i + (0.2 if k == 0 else -0.2) for i in range(len(rows))]
            axes.barh(at, values, 0.38, color=colour, alpha=0.85, label="samples" if k == 0 else "real music")
        axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name, _ in rows])
        axes.set_xlabel("per bar")
        axes.legend(frameon=False, fontsize=8)

    lead = [
        "What books on counterpoint call faults, in samples and in held-out music: real music is not free of them."
    ]
    return Section(
        "faults", "Voice leading", "Voice leading", lead, [("", draw("faults", "Faults", paint, height=2.2))]
    )


def _schedule(session: Session) -> Section | None:
    profile = read_unmasking(session.run.path)
    return None if profile is None else section(profile)


def _copied(session: Session, scores: list[Score], found: Evaluation) -> list[Section]:
    """The samples that are nearest to training, each above what it is near to."""
    if not found.nearest:
        return []
    figures: list[Any] = []
    run, split = session.run, session.data.train
    items = chosen(run, split, MOST_REAL)
    for row in found.nearest[:COPIED]:
        x, cond = items.batch(torch.tensor([row.train]))
        near = Samples(x, cond, 0, run.modality, None, run.facts.columns).raws()[0]
        figures.append((f"sample {row.sample}", piano_roll(scores[row.sample], 720, 160)))
        words = f"its nearest passage of training: {row.distance:.0%} of the tokens differ, in the best of 13 keys"
        figures.append((words, piano_roll(near, 720, 160)))
    lead = [
        (
            f"The samples that are nearest to training, in any key. Of held-out passages 1 % come nearer than "
            f"{found.nearest[0].threshold:.0%}."
        )
    ]
    return [Section("copies", "Nearest passages", "What it copied", lead, figures)]
