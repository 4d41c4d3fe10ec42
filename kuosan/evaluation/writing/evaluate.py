"""Measures a set of written texts against real ones, in every way that the data allow.

`evaluate_texts` cuts real texts to the samples' length (words.py), decides the roles of the real pieces as for pictures
(roles.py), and measures

    entropy_*, distinct_*, self_bleu, repetition, known_words     diversity, and words that there are (diversity.py)
    longest_span, copies, nearest_distance                        is it copied from training, in passages? (spans.py)
    fd, kd, kd_rbf, swd, c2st, fd_inf    in every feature space: distance of the laws   (fd_ngrams, kd_sentences, …)
    precision, recall, density, coverage, vendi, mauve            in the encoder's space, else in n-grams
    pairwise or, with labels, pairwise_within and pairwise_between       there, too
    class_accuracy                                                with labels: is the class asked for recognised?

What cannot be measured is left out with its reason in `left_out`: nothing is guessed from too few texts. The
likelihood of a model belongs beside the baselines (baselines.py), which need no samples and are apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from kuosan.errors import UserError
from kuosan.evaluation.base import Measurement, subsets
from kuosan.evaluation.copies import Nearest
from kuosan.evaluation.found import Evaluation, Found, Sides, apart, copied, distances, neighbours, recognised
from kuosan.evaluation.frontier import Mauve
from kuosan.evaluation.roles import Roles, roles
from kuosan.evaluation.writing.diversity import DIVERSITY, known_words, vocabulary_of
from kuosan.evaluation.writing.features import TextClassifier, TextSpace, fit_ngrams, train_text_classifier
from kuosan.evaluation.writing.sentences import Sentences
from kuosan.evaluation.writing.spans import Span, honest_spans, longest_spans, outside, worst_spans
from kuosan.evaluation.writing.statistics import FEWEST_TEXTS, measure_texts
from kuosan.evaluation.writing.words import Pieces, pieces

FEWEST_TAUGHT = 64  # real pieces to fit a feature space or a classifier on
TAUGHT_PER_SECOND = 70  # of 256 characters, on a slow core
MOST_HELDOUT = 5000  # pieces; more would cost time and change little


def evaluate_texts(
    samples: Sequence[str],
    train: Sequence[str],
    val: Sequence[str],
    *,
    labels: Int[Tensor, " n"] | None = None,
    train_labels: Int[Tensor, " t"] | None = None,
    val_labels: Int[Tensor, " v"] | None = None,
    out: Path | None = None,
    seed: int = 0,
    seconds: float = 30.0,
    encoder: Path | str | None = None,
) -> Evaluation:
    """Every measurement that these texts allow; the same bits for the same arguments.

    `labels` are the classes asked of the samples; `train_labels` and `val_labels` the true ones. `seconds` is
    what the whole may take on two slow cores, which decides on how many texts spaces are fitted. `encoder` is the
    local folder of a sentence encoder. With `out`, evaluation.json is written there.
    Raises UserError where there is nothing to compare, or labels do not count as many as their texts.
    """
    _check(samples, train, val, labels, train_labels, val_labels)
    longest = max(map(len, samples)) or max(map(len, train))
    generator = torch.Generator().manual_seed(seed)
    found = Found(generator)
    real = _Real.of(train, val, longest, train_labels, val_labels, generator)
    parts = roles(len(real.train), len(real.val), len(samples), generator)
    _diversity(found, samples, train, real, parts)
    table = _copies(found, samples, train, real.val)
    taught = parts.taught[: max(FEWEST_TAUGHT, int(TAUGHT_PER_SECOND * seconds * 256 / max(256, longest)))]
    _spaces(found, samples, real, parts, taught, encoder, seed, labels)
    _classes(found, samples, real, taught, labels)
    counts = {
        "samples": len(samples), "train": len(train), "val": len(val), "train_pieces": len(real.train),
        "val_pieces": len(real.val), "taught": len(taught), "empty": sum(not text for text in samples),
    }  # fmt: skip
    evaluation = Evaluation(found.metrics, table, found.left_out, found.spaces, counts)
    if out is not None:
        evaluation.write(out)
    return evaluation


@dataclass(frozen=True)
class _Real:
    """Pieces of the real texts with the labels of the texts that they come from."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    train_labels: Tensor | None
    val_labels: Tensor | None
    note: str

    @classmethod
    def of(
        cls, train: Sequence[str], val: Sequence[str], longest: int, train_labels: Tensor | None,
        val_labels: Tensor | None, generator: torch.Generator,
    ) -> _Real:  # fmt: skip
        a, b = pieces(train, longest), pieces(val, longest)
        if len(b) > MOST_HELDOUT:
            few = subsets(len(b), MOST_HELDOUT, generator, 1)[0].numpy()
            b = Pieces(tuple(b.texts[i] for i in few.tolist()), b.source[few])
        cut = len(a) > len(train) or len(b) > len(val)
        note = f"real texts in pieces of up to {longest} characters" if cut else ""
        return cls(a.texts, b.texts, _of_pieces(train_labels, a), _of_pieces(val_labels, b), note)


def _of_pieces(labels: Tensor | None, cut: Pieces) -> Tensor | None:
    return labels.cpu().long()[torch.from_numpy(cut.source)] if labels is not None else None


def _pick(texts: Sequence[str], index: Tensor) -> list[str]:
    return [texts[i] for i in index.tolist()]


def _check(
    samples: Sequence[str], train: Sequence[str], val: Sequence[str], labels: Tensor | None,
    train_labels: Tensor | None, val_labels: Tensor | None,
) -> None:  # fmt: skip
    for what, texts, known in (
        ("samples", samples, labels), ("training texts", train, train_labels), ("held-out texts", val, val_labels),
    ):  # fmt: skip
        if isinstance(texts, str):
            raise UserError(f"The {what} are one text, not several: give a list of texts.")
        if known is not None and len(known) != len(texts):
            raise UserError(
                f"There are {len(texts)} {what} but {len(known)} labels for them: give one for each."
            )
    if len(samples) == 0 or not any(train):
        raise UserError("There is nothing to compare: give at least one sample and one training text.")


def _diversity(found: Found, samples: Sequence[str], train: Sequence[str], real: _Real, parts: Roles) -> None:
    pool, note = list(real.val), real.note
    if len(pool) < len(samples):
        # Statistics of a set compare with no training text, so training texts are as real as any.
        extra = _pick(real.train, torch.cat([parts.unseen, parts.borrowed]))
        pool += extra
        note = "; ".join(
            w for w in (note, f"{len(real.val)} held-out and {len(extra)} training pieces are real") if w
        )
    for statistic in DIVERSITY:
        call = partial(measure_texts, statistic, samples, pool, generator=found.generator, note=note)
        found.attempt(statistic.name, call)
    known = known_words(vocabulary_of(train))
    call = partial(measure_texts, known, samples, real.val, generator=found.generator, note=real.note)
    found.attempt(known.name, call)


def _copies(
    found: Found, samples: Sequence[str], train: Sequence[str], val: Sequence[str]
) -> tuple[Nearest, ...]:
    spans = longest_spans([*samples, *val], train)
    mine, theirs = spans[: len(samples)], spans[len(samples) :]
    theirs = tuple(Span(i, s.start, s.length, s.train, s.train_start) for i, s in enumerate(theirs))
    found.spaces["spans"] = {
        "name": "spans",
        "what": "share of a text outside the longest run of characters that stands in a training text",
        "longest": worst_spans(samples, mine),
    }
    found.attempt("longest_span", partial(_longest, mine, theirs, val))
    index = torch.tensor([span.train for span in mine])
    honest = honest_spans(val, theirs)
    return copied(found, "spans", index, outside(samples, mine), honest, f"{len(train)} training texts")


def _longest(mine: Sequence[Span], theirs: Sequence[Span], val: Sequence[str]) -> Measurement:
    """Mean length of the longest span; held-out texts that stand in training as a whole are no measure of honesty."""
    lengths = np.array([span.length for span in mine], dtype=float)
    honest = np.array([s.length for s in theirs if s.length < len(val[s.sample])], dtype=float)
    if len(lengths) < FEWEST_TEXTS or len(honest) < FEWEST_TEXTS:
        raise ValueError(
            f"needs {FEWEST_TEXTS} samples and held-out texts that are not in training, "
            f"got {len(lengths)} and {len(honest)}"
        )
    value, floor = (
        (float(row.mean()), float(row.std(ddof=1) / math.sqrt(len(row)))) for row in (lengths, honest)
    )
    return Measurement(
        name="longest_span",
        value=value[0],
        stderr=value[1],
        n=len(lengths),
        space="spans",
        floor=floor[0],
        floor_stderr=floor[1],
        better="lower",
        note=f"characters; mean over samples, the longest has {int(lengths.max())}; floor: {len(honest)} held-out "
        f"texts, the longest span has {int(honest.max())}",
    )


def _spaces(
    found: Found, samples: Sequence[str], real: _Real, parts: Roles, taught: Tensor,
    encoder: Path | str | None, seed: int, labels: Tensor | None,
) -> None:  # fmt: skip
    def compared(space: TextSpace, pool: Tensor) -> Sides:
        found.spaces[space.name] = space.describe()
        reference = [*real.val, *_pick(real.train, parts.borrowed)]
        note = "; ".join(w for w in (parts.note, real.note) if w)
        sides = Sides(space(samples), space(reference), space(_pick(real.train, pool)), note)
        distances(found, space.name, sides)
        return sides

    finest: tuple[str, Sides] | None = None
    needed = FEWEST_TAUGHT
    try:
        if len(taught) < needed:
            raise ValueError(
                f"needs {needed} training texts beside those kept for the floor, got {len(taught)}"
            )
        space = fit_ngrams(_pick(real.train, taught), seed)
        finest = space.name, compared(space, parts.unseen)
    except ValueError as error:
        for name in ("fd", "kd", "kd_rbf", "swd", "c2st", "fd_inf"):
            found.left_out[f"{name}_ngrams"] = str(error)
        reason = str(error)
    if encoder is not None:
        sentences = Sentences(encoder)
        finest = sentences.name, compared(sentences, parts.pool)
    if finest is None:
        for name in ("precision", "recall", "density", "coverage", "vendi", "pairwise", "mauve"):
            found.left_out[name] = reason
        return
    name, sides = finest
    neighbours(found, name, sides)
    of_reference = None
    if real.train_labels is not None and real.val_labels is not None:
        of_reference = torch.cat([real.val_labels, real.train_labels[parts.borrowed]])
    apart(found, name, sides, labels, of_reference)
    found.compare("mauve", Mauve(), sides, name)


def _classes(
    found: Found, samples: Sequence[str], real: _Real, taught: Tensor, labels: Tensor | None
) -> None:
    classifier: TextClassifier | None = None
    if labels is not None and real.train_labels is not None and len(taught) >= FEWEST_TAUGHT:
        teachers, known = _pick(real.train, taught), real.train_labels[taught]
        if len(known.unique()) > 1:
            classifier = train_text_classifier(teachers, known, val=real.val, val_labels=real.val_labels)
            found.spaces[classifier.name] = classifier.describe()

    def scores(texts: Sequence[str], mask: Tensor) -> Any:
        assert classifier is not None
        return classifier.logits(_pick(texts, mask.nonzero()[:, 0]))

    name, classes = (classifier.name, classifier.classes) if classifier is not None else ("tf-idf", ())
    recognised(
        found, name, classes, partial(scores, samples), partial(scores, real.val), labels, real.val_labels
    )
