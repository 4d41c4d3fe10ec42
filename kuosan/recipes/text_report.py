"""The report of a run over texts: how they came to be, how surprised the model is by others', what it copied."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kuosan.core.random import Seeds
from kuosan.core.shapes import map_state
from kuosan.evaluation.base import Measurement
from kuosan.evaluation.found import Evaluation
from kuosan.evaluation.report import ReportFacts, write_report
from kuosan.evaluation.report_section import Section, Trace, Words
from kuosan.evaluation.report_words import number, steps_in_words
from kuosan.evaluation.verdict import Finding
from kuosan.evaluation.writing.spans import longest_spans, worst_spans
from kuosan.processes.discrete import Masked
from kuosan.recipes import machine
from kuosan.recipes.cite import citations
from kuosan.recipes.heat import sampled_in_words
from kuosan.recipes.report import command, events, log_rows, origin_of, preview_pictures
from kuosan.recipes.report_average import average_section
from kuosan.recipes.report_bits import bits_chart, by_heart
from kuosan.recipes.report_unmasking import section
from kuosan.recipes.run import Samples
from kuosan.recipes.session import METRICS, Session, preview_conditions
from kuosan.recipes.text_measure import texts_of
from kuosan.recipes.tokens import read_unmasking
from kuosan.training.budget import clock

SHOWN, COPIED = 9, 6
LONGEST = 1200  # characters of a text that are shown
_PROCESSES = {
    "masked": "masked diffusion",
    "uniform": "diffusion with random tokens",
    "blocks": "block diffusion",
    "autoregressive": "autoregressive, one token after the other",
}


def write(
    session: Session,
    samples: Samples,
    found: Evaluation,
    surprise: Mapping[str, Measurement],
    others: Mapping[str, float],
    scanned: Mapping[str, Any],
    verdict: Sequence[Finding],
    more: Sequence[Section] = (),
) -> Path:
    """``report.html`` of a run over texts, with its verdict and ``more`` sections of other methods."""
    run, data, count = session.run, session.data, session.training.count
    facts = run.facts
    survey = data.survey.to_json()
    survey.pop("notes", None)
    texts = samples.modality.decode(samples.x)
    origin = origin_of(facts)
    what = _PROCESSES[facts.recipe.process.kind]
    headlines = [
        (
            f"{origin} ({what}) on {facts.items:,} passages of up to {run.latent_shape[0]} tokens, in "
            f"{clock(session.seconds)} and {count.step:,} steps."
        ),
        f"{sampled_in_words(run.sampler())}; none is picked.",
    ]
    if m := surprise.get("bits_per_character"):
        kind = "exactly" if m.note == "exact" else "at most"
        headlines.append(
            f"Held-out text costs {kind} {number(m.value, m.stderr)} bits per character ({m.n:,} passages)."
        )
    labels = _labels(session, samples)
    made = (_surprise(surprise, others), average_section(run.path), _schedule(session))
    sections = [*_copied(session, texts), *_identifiers(scanned), *more, *(s for s in made if s)]
    page = ReportFacts(
        title=Path(data.survey.source).resolve().stem.replace("_", " "),
        subtitle="A model of texts, and how far to trust it",
        created=datetime.date.today().isoformat(),
        command=command(session),
        headlines=headlines,
        verdict=verdict,
        texts=[(labels[i], text[:LONGEST]) for i, text in enumerate(texts[:SHOWN])],
        survey=survey,
        choices=facts.choices,
        previews=preview_pictures(run.path / "samples"),
        log=log_rows(run.path / METRICS),
        metrics=found.to_json()["metrics"],
        left_out=found.left_out,
        shows=[s for s in (_written(session),) if s],
        sections=sections,
        events=events(session),
        environment=machine.facts(),
        citations=citations(run),
        noun="texts",
    )
    return write_report(page, run.path / "report.html")


def _labels(session: Session, samples: Samples) -> list[str]:
    """What each of the first samples was asked for."""
    columns = session.facts.columns

    def one(i: int) -> str:
        asked = ((k, int(v[i])) for k, v in samples.cond.items())
        return ", ".join(f"{k} {columns[k][v]}" for k, v in asked if v < len(columns[k]))

    return [f"number {i}" + (f" · {one(i)}" if one(i) else "") for i in range(min(SHOWN, len(samples)))]


def _written(session: Session) -> Section | None:
    """One sample as it was written, step by step."""
    run = session.run
    process = run.model.process
    if not isinstance(process, Masked):
        return None
    cond, _ = preview_conditions(run)
    one = map_state(lambda v: v[:1], cond) if cond else {}
    when = torch.zeros(run.latent_shape, dtype=torch.int64)
    steps = 0
    with torch.inference_mode():
        for step in run.walk(Seeds.of(run.facts.recipe.seed + 1, 1), one):
            x = step.x[0].cpu()
            steps = step.index + 1
            when[(x != process.size) & (when == 0)] = steps
    tokeniser = run.modality.tokeniser  # type: ignore[attr-defined]
    pieces = written_pieces(tokeniser, x, when)
    if not pieces:
        return None
    return Section(
        "written",
        "As it is written",
        "As it is written",
        [
            f"One sample in {steps_in_words(steps)}. Colour tells when a token was written, first blue, last orange."
        ],
        [(f"seed {run.facts.recipe.seed + 1}, number 0", Trace(pieces, steps))],
    )


def written_pieces(tokeniser: Any, x: torch.Tensor, when: torch.Tensor) -> list[tuple[str, int]]:
    """The text up to its end, cut where characters begin, each piece with the step of its last token."""
    out, held, last = [], b"", 0
    for token, step in zip(x.tolist(), when.tolist(), strict=True):
        if token == tokeniser.end:
            break
        held, last = held + tokeniser.pieces[token], max(last, step)
        try:
            text = held.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.end - error.start < 4 and error.reason == "unexpected end of data":
                continue  # the rest of the character is in the next token
            text = held.decode("utf-8", "replace")
        out.append((text, last))
        held, last = b"", 0
    return out


def _surprise(surprise: Mapping[str, Measurement], others: Mapping[str, float]) -> Section | None:
    """Bits per character, beside models that need no training."""
    mine = surprise.get("bits_per_character")
    if mine is None:
        return None
    token = surprise["bits_per_token"]
    name = "this model" if mine.note == "exact" else "this model (at most)"
    exact = "exactly" if mine.note == "exact" else "at most (an upper bound)"
    lead = [
        (
            f"Held-out text costs the model {exact} {number(mine.value, mine.stderr)} bits per character and "
            f"{number(token.value, token.stderr)} per token, n = {mine.n:,} passages. Beside it n-grams (Kneser–Ney) "
            "and compressors that were given the same training text."
        ),
    ]
    lead += by_heart("text", surprise.get("bits_per_character_train"))
    figure = bits_chart(name, mine, others, "Bits per character", "bits per character of held-out text")
    return Section("surprise", "Surprise", "How surprised it is by other texts", lead, [("", figure)])


def _schedule(session: Session) -> Section | None:
    """The unmasking schedule that the profile leads to, and what it saves."""
    profile = read_unmasking(session.run.path)
    return None if profile is None else section(profile)


def _copied(session: Session, texts: list[str]) -> list[Section]:
    """The samples with the longest passages that stand in the training text, word for word."""
    training = texts_of(session.data.train)
    spans = worst_spans(texts, longest_spans(texts, training), COPIED)
    if not spans:
        return []
    rows = [
        (
            f"number {row['sample']}: {row['length']} of its {len(texts[row['sample']])} characters stand in training",
            row["text"][:LONGEST],
        )
        for row in spans
    ]
    lead = [
        (
            "The longest passages of samples that stand in the training text, character by character; how long such "
            "passages are in held-out texts stands among the measurements above."
        )
    ]
    return [Section("copies", "Copied passages", "What it copied", lead, [("", Words(rows))])]


def _identifiers(scanned: Mapping[str, Any]) -> list[Section]:
    """What in the samples looks as if it could identify a person; nothing where nothing does."""
    if not scanned["findings"]:
        return []
    kinds = ", ".join(f"{n:,} × {kind}" for kind, n in scanned["counts"].items() if n)
    lead = [
        (
            f"{scanned['texts_with_findings']:,} of {scanned['texts']:,} samples hold something that looks as if it "
            f"could identify a person ({kinds}); {scanned['in_training']:,} of these stand word for word in the "
            "training text."
        ),
        scanned["note"],
    ]
    first = sorted(scanned["findings"], key=lambda f: not f["in_training"])[:COPIED]
    rows = [
        (f"{f['kind']}, sample {f['index']}{', in the training text' if f['in_training'] else ''}", f["text"])
        for f in first
    ]
    return [Section("identifiers", "Identifiers", "What could identify somebody", lead, [("", Words(rows))])]
