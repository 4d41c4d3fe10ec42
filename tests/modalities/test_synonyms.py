"""Synonyms: only words of the table change, into words of their set, in the same case, by chance of the key."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities.synonyms import Synonyms, like, matches, read_synonyms, replace

TABLE = Synonyms.of(
    {
        "big": ["large", "great"],
        "dog": ["hound"],
        "in force": ["valid"],
        "force": ["power"],
        "今天": ["今日"],
        "天": ["日"],
        "高兴": ["快乐", "愉快"],
    }
)
TEXTS = st.lists(
    st.sampled_from(
        ["big", "Big", "BIG", "dog", "dogs", "cat", "force", "in", "in force", "x-dog", "今天", "高兴天"]
    ),
    max_size=12,
).map(" ".join) | st.text(max_size=30)


@settings(max_examples=40)
@given(TEXTS)
def test_rate_nought_changes_nothing(text: str) -> None:
    assert replace([text], TABLE, Seeds.of(1, 1), 0.0) == [text]


@settings(max_examples=40)
@given(TEXTS, st.integers(0, 2**32))
def test_everything_else_stands_and_replacements_are_in_their_set(text: str, seed: int) -> None:
    """With rate 1 the text is its matches, each replaced by one of its set in its case, and all else as it was."""
    pattern, done = "", 0
    for match in matches(text, TABLE):
        here = text[match.start : match.end]
        assert " ".join(here.lower().split()) == match.word
        choices = "|".join(re.escape(like(other, here)) for other in TABLE.words[match.word])
        pattern += re.escape(text[done : match.start]) + f"(?:{choices})"
        done = match.end
    pattern += re.escape(text[done:])
    assert re.fullmatch(pattern, replace([text], TABLE, Seeds.of(seed, 1), 1.0)[0], re.DOTALL)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["big", "Dog", "force", "cat,", "BIG"]), max_size=30), st.integers(0, 99))
def test_single_words_keep_the_count_of_words(words: list[str], seed: int) -> None:
    text = " ".join(words)
    assert len(replace([text], TABLE.only_single(), Seeds.of(seed, 1), 0.7)[0].split()) == len(words)


def test_whole_words_in_their_case_the_longest_first() -> None:
    def all_of(text: str) -> str:
        return replace([text], TABLE, Seeds.of(0, 1), 1.0)[0]

    assert all_of("dogs doge a dog, Dog and DOG x-dog") == "dogs doge a hound, Hound and HOUND x-dog"
    assert all_of("It is In  Force by force") == "It is Valid by power"
    assert all_of("今天天气") == "今日日气", "the longest entry at each character"
    assert like("great", "A") == "Great", "one capital letter is a first letter"


def test_one_key_one_text_whatever_the_neighbours() -> None:
    texts = ["big dog force " * 20, "a big big dog", "今天高兴 " * 9]
    seeds = Seeds.of(7, 3)
    together = replace(texts, TABLE, seeds, 0.5)
    assert together == [replace([t], TABLE, seeds[i : i + 1], 0.5)[0] for i, t in enumerate(texts)]
    assert together == replace(texts, TABLE, seeds, 0.5)
    assert together != replace(texts, TABLE, Seeds.of(8, 3), 0.5)
    assert together[0] != texts[0]


def test_the_rate_is_the_share_replaced_and_choices_are_equal() -> None:
    found = replace(["big " * 10_000], TABLE, Seeds.of(3, 1), 0.3)[0].split()
    assert 1 - found.count("big") / 10_000 == pytest.approx(0.3, abs=0.02)
    assert found.count("large") / found.count("great") == pytest.approx(1, abs=0.1)


def test_tables_are_read_in_both_forms(tmp_path: Path) -> None:
    groups = tmp_path / "groups.tsv.gz"
    lines = (
        "id\tfile\twords\n1-a\tadj.all\tbig|Large|big\n2-n\tnoun.x\tIT|engineering\n3-n\tnoun.x\tdog|hound\n"
    )
    groups.write_bytes(gzip.compress(lines.encode()))
    assert dict(read_synonyms(groups).words) == {
        "big": ("Large",), "large": ("big",), "dog": ("hound",), "hound": ("dog",),
    }  # fmt: skip
    assert set(read_synonyms(groups, ["adj.all"]).words) == {"big", "large"}
    own = tmp_path / "own.tsv"
    own.write_text("# mine\nit\tthis|that\nbig\tlarge\nbig\tgreat\n", encoding="utf-8")
    assert dict(read_synonyms(own).words) == {"it": ("this", "that"), "big": ("large", "great")}


def test_bad_tables_rates_and_seeds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.tsv"
    path.write_text("one column\n", encoding="utf-8")
    with pytest.raises(UserError, match="Line 1 .* 1 columns"):
        read_synonyms(path)
    path.write_bytes(b"\x1f\x8bcut")
    with pytest.raises(UserError, match="cannot be read"):
        read_synonyms(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_synonyms(tmp_path / "none.tsv")
    with pytest.raises(ValueError, match="rate"):
        replace(["big"], TABLE, Seeds.of(0, 1), 1.5)
    with pytest.raises(ValueError, match="its own"):
        replace(["big"], TABLE, Seeds.of(0, 2), 0.5)


def test_wordnet_is_read(shared_data: Callable[[str], Path]) -> None:
    table = read_synonyms(shared_data("knowledge") / "wordnet" / "synonyms.tsv.gz")
    assert len(table.words) > 50_000 and "domestic dog" in table.words["dog"]
    assert not {"a", "in", "it", "i"} & set(table.words)
    assert all(other.lower() != word for word, others in table.words.items() for other in others)
