"""The report of a run over music: to be heard and seen, how surprised the model is by others' music, what it copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Evaluation
from kuosan.evaluation.music.faults import FAULTS
from kuosan.evaluation.plots import FIRST, SECOND, draw
from kuosan.evaluation.report_section import Clip, Section
from kuosan.evaluation.report_words import number
from kuosan.modalities import Score
from kuosan.modalities.music_draw import piano_roll
from kuosan.modalities.music_sound import RATE, render, wave_bytes
from kuosan.recipes.masked_report import Told, copied, page, schedule
from kuosan.recipes.music_measure import MOST_REAL, music_of
from kuosan.recipes.report_bits import bits_chart, by_heart
from kuosan.recipes.session import Session

HEARD, SHOWN = 3, 12
SECONDS = 12.0  # of each sound in the page: half a megabyte


def write(session: Session, told: Told) -> Path:
    """``report.html`` of a run over music."""
    modality, surprise = music_of(session.run), told.surprise
    scores = told.samples.raws()
    headlines = []
    if m := surprise.get("bits_per_token"):
        per_note = surprise["bits_per_note"]
        headlines.append(
            f"Held-out music costs at most {number(m.value, m.stderr)} bits per token and "
            f"{number(per_note.value, per_note.stderr)} per note ({m.n:,} pieces)."
        )
    near = copied(
        session, told, MOST_REAL, lambda score: piano_roll(score, 720, 160),
        lambda distance: f"{distance:.0%} of the tokens differ, in the best of 13 keys",
        lambda usual: "The samples that are nearest to training, in any key. Of held-out passages 1 % come nearer than "
        f"{usual:.0%}.",
    )  # fmt: skip
    made = (_surprise(surprise, told.others), _faults(told.found, session.run.allowed is not None))
    return page(
        session,
        told,
        what="music",
        process=f"{modality.form.lanes} voices",
        items=f"passages of {modality.steps} steps",
        headlines=headlines,
        shown=scores[:SHOWN],
        shows=[s for s in (_heard(scores),) if s],
        sections=[*near, *told.more, *(s for s in made if s), *schedule(session)],
    )


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


def _faults(found: Evaluation, revised: bool) -> Section | None:
    """Voice leading beside that of real music; ``revised``: notes of faults were written again."""
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
    if revised:
        lead.append(
            "Samples are revised: notes of faults are written again until a passage has no more of them than it may, "
            "which is as many as one of training has unless `sampling.faults` says otherwise; `--faults any` is what "
            "the model writes by itself."
        )
    return Section(
        "faults", "Voice leading", "Voice leading", lead, [("", draw("faults", "Faults", paint, height=2.2))]
    )
