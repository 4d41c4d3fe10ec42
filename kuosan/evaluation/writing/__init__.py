"""Evaluation of written texts: baselines, diversity, copied passages, distances, classes.

`evaluate_texts` measures samples against real texts; `text_baselines` says what simple models of the same texts reach.
"""

from __future__ import annotations

from kuosan.evaluation.writing.baselines import text_baselines
from kuosan.evaluation.writing.compressors import compressed_bits, compressors
from kuosan.evaluation.writing.diversity import DIVERSITY, distinct, known_words, vocabulary_of
from kuosan.evaluation.writing.evaluate import evaluate_texts
from kuosan.evaluation.writing.features import (
    Ngrams,
    TextClassifier,
    TextSpace,
    fit_ngrams,
    train_text_classifier,
)
from kuosan.evaluation.writing.ngrams import KneserNey
from kuosan.evaluation.writing.sentences import Sentences
from kuosan.evaluation.writing.spans import Span, longest_spans
from kuosan.evaluation.writing.statistics import Statistic, measure_texts
from kuosan.evaluation.writing.words import pieces, words

__all__ = [
    "DIVERSITY",
    "KneserNey",
    "Ngrams",
    "Sentences",
    "Span",
    "Statistic",
    "TextClassifier",
    "TextSpace",
    "compressed_bits",
    "compressors",
    "distinct",
    "evaluate_texts",
    "fit_ngrams",
    "known_words",
    "longest_spans",
    "measure_texts",
    "pieces",
    "text_baselines",
    "train_text_classifier",
    "vocabulary_of",
    "words",
]
