"""The longest copied passage: what a slow search finds, in any script, and it is told where it stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kuosan.evaluation import Copies
from kuosan.evaluation.writing.spans import honest_spans, longest_spans, outside, worst_spans

SHORT = st.text("ab天", max_size=10)


def slow(text: str, training: list[str]) -> tuple[int, int]:
    """(length, first start) of the longest run of the text that stands in a training text."""
    for length in range(len(text), 0, -1):
        for start in range(len(text) - length + 1):
            if any(text[start : start + length] in t for t in training):
                return length, start
    return 0, 0


@settings(max_examples=40)
@given(st.lists(SHORT, max_size=5), st.lists(SHORT, max_size=5))
def test_it_is_the_longest_and_it_stands_where_it_says(texts: list[str], training: list[str]) -> None:
    for i, (text, span) in enumerate(zip(texts, longest_spans(texts, training), strict=True)):
        assert span.sample == i and (span.length, span.start) == slow(text, training)
        if span.length:
            there = training[span.train][span.train_start : span.train_start + span.length]
            assert there == text[span.start : span.start + span.length]


@settings(max_examples=40)
@given(
    st.lists(st.text(max_size=40), min_size=1, max_size=4),
    st.lists(st.text(max_size=40), max_size=4),
    st.data(),
)
def test_any_characters_also_long_runs(texts: list[str], training: list[str], data: st.DataObject) -> None:
    """A passage taken from a text and put into training is found whole, whatever it is made of."""
    which = data.draw(st.integers(0, len(texts) - 1))
    start = data.draw(st.integers(0, len(texts[which])))
    passage = texts[which][start:]
    found = longest_spans(texts, [*training, "<" + passage + ">"])
    assert found[which].length >= len(passage)
    assert all(
        (s.length, s.start) == slow(t, [*training, "<" + passage + ">"])
        for s, t in zip(found, texts, strict=True)
    )


def test_no_run_crosses_the_end_of_a_text() -> None:
    assert longest_spans(["abcd"], ["xab", "cdx"])[0].length == 2
    assert [s.length for s in longest_spans(["ab", "cd"], ["abcd"])] == [2, 2]
    assert longest_spans(["a"], [])[0].length == 0 and longest_spans([], ["a"]) == ()


def test_repetitive_texts_end() -> None:
    """The worst case of sorting suffixes: one letter."""
    assert longest_spans(["a" * 300, "a" * 99 + "b"], ["a" * 5000])[0].length == 300
    found = longest_spans(["ab" * 100], ["ba" * 3000])[0]
    assert (found.start, found.length, found.train_start % 2) == (0, 200, 1)


def test_long_training_texts_are_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    training = ["".join(generator.choice(list("abcd"), 50)) for _ in range(40)]
    texts = [training[3][5:40], training[39][10:] + "zzz", "abcdabcd"]
    whole = longest_spans(texts, training)
    monkeypatch.setattr("kuosan.evaluation.writing.spans.MOST_AT_ONCE", 120)
    parts = longest_spans(texts, training)
    assert [(s.length, s.start) for s in parts] == [(s.length, s.start) for s in whole]
    assert (parts[0].train, parts[0].train_start) == (3, 5) and parts[1].train == 39


def test_copies_among_honest_texts_are_counted() -> None:
    generator = np.random.default_rng(1)

    def texts(n: int) -> list[str]:
        return ["".join(row) for row in generator.choice(list("abcdefgh "), (n, 60))]

    training, heldout, samples = texts(400), texts(300), texts(200)
    samples[:50] = [t[:45] + s[45:] for t, s in zip(training[:50], samples[:50], strict=True)]
    theirs = longest_spans(heldout, training)
    honest = honest_spans(heldout, theirs)
    mine = longest_spans(samples, training)
    measured = Copies()(outside(samples, mine)[:, None], honest.distances)
    assert (
        measured.value == pytest.approx(0.25, abs=0.03)
        and measured.sigmas is not None
        and measured.sigmas > 5
    )
    worst = worst_spans(samples, mine, 50)
    assert {row["sample"] for row in worst} == set(range(50)) and worst[0]["length"] >= 45
    assert all(row["text"] in training[row["train"]] for row in worst)
    assert outside(["", "ab"], longest_spans(["", "ab"], ["ab"])).tolist() == [1.0, 0.0]
    doubled = honest_spans([*heldout, training[0]], longest_spans([*heldout, training[0]], training))
    assert torch.equal(doubled.distances, honest.distances) and "1 that stand in training" in doubled.source
