"""Templates: what is literal stays, what is a gap has the asked number of characters, in every candidate."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kuosan.core.posteriors import Categorical
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.guidance.language import Accepted, Candidate, Gap, Template, fill, lift, parse_template


@dataclass(frozen=True)
class Vocabulary:
    """Longest match first."""

    pieces: tuple[bytes, ...]

    @property
    def size(self) -> int:
        return len(self.pieces)

    @property
    def end(self) -> int:
        return self.pieces.index(b"")

    def encode(self, text: str) -> list[int]:
        data, out = text.encode(), []
        while data:
            fits = [v for v, p in enumerate(self.pieces) if p and data.startswith(p)]
            if not fits:
                return out
            out.append(max(fits, key=lambda v: len(self.pieces[v])))
            data = data[len(self.pieces[out[-1]]) :]
        return out


CHARACTERS = Vocabulary(tuple(c.encode() for c in "abc dé中,.[\\") + (b"",))
PIECES = Vocabulary((b"", *(c.encode() for c in "abc dé中,."), b"ab", b"bcab", "é中d".encode(), b" a", b". "))
BYTES = Vocabulary((b"a", b"b", b" ", b",", b".", b"\xc3", b"\xa9", b"\xe4", b"\xb8", b"\xad", b""))


def texts(candidate: Candidate, vocabulary: Vocabulary, n: int = 20) -> list[str]:
    """Drawn at random within the candidate; without a constraint, up to the first END."""
    state = candidate.state.expand(n, -1)
    logits = torch.randn(n, len(candidate.state), vocabulary.size, generator=torch.Generator().manual_seed(0))
    q = Categorical(logits)
    if candidate.automaton:
        x = Accepted(q, state, lift(candidate.automaton, vocabulary.pieces, vocabulary.end)).sample(
            Seeds.of(0, n)
        )
    else:
        x = torch.where(state == vocabulary.size, q.sample(Seeds.of(0, n)), state)
    rows = [row[: row.index(vocabulary.end)] if vocabulary.end in row else row for row in x.tolist()]
    return [b"".join(vocabulary.pieces[v] for v in row).decode() for row in rows]


def test_gaps_and_literals_are_read_in_order() -> None:
    parts = parse_template("a [[gap:20]], [[gap:5-12]][[gap]].").parts
    assert parts == ("a ", Gap(20, 20, 3), ", ", Gap(5, 12, 15), Gap(0, None, 27), ".")


def test_brackets_and_backslashes_can_be_written() -> None:
    for written, literal in [
        (r"\[[gap]]", "[[gap]]"),
        (r"\[[", "[["),
        (r"a\b[c", r"a\b[c"),
        (r"\\\[[x", r"\[[x"),
        (r"a\\", "a\\"),  # before a gap, two for one
        ("a[", "a["),
        (r"\[[[", "[[["),
    ]:
        assert parse_template(written + "[[gap]]").parts[0] == literal


@given(st.lists(st.one_of(st.text("ab[]\\\n中", min_size=1), st.integers(1, 9)), min_size=1))
def test_every_text_can_be_escaped(parts: list[str | int]) -> None:
    def escape(text: str) -> str:
        text = re.sub(r"(\\*)\[\[", lambda m: m[1] * 2 + r"\[[", text)
        return re.sub(r"(\\+)\Z", lambda m: m[1] * 2, text)

    joined: list[str | int] = []
    for part in [*parts, 7]:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    source = "".join(f"[[gap:{p}]]" if isinstance(p, int) else escape(p) for p in joined)
    read = [p if isinstance(p, str) else p.least for p in parse_template(source).parts]
    assert read == joined


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ab[[gap:0]]", "at character 3 of the template has no characters"),
        ("[[gap:5-3]]", "from 5 down to 3"),
        ("a [[gap:x]]", "'[[gap:x]]' at character 3"),
        ("[[gap:-3]] b", "is no gap"),
        ("[[hole]]", "is no gap"),
        ("[[gap:0-0]]", "no characters"),
        ("all written", "no gap, so nothing"),
        ("", "no gap"),
    ],
)
def test_impossible_gaps_are_refused_with_their_place(text: str, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        parse_template(text)


TEMPLATES = [
    "a [[gap:3]], [[gap:2-4]].",
    "[[gap:2]]é中[[gap:1]]",
    "[[gap]] ab.",
    "ab [[gap:2-3]]. [[gap]]",
    "[[gap]],[[gap:2]]",
]


def pattern(template: Template) -> str:
    """In Python's own words."""
    return "".join(
        re.escape(p) if isinstance(p, str) else ".*" if p.most is None else f".{{{p.least},{p.most}}}"
        for p in template.parts
    )


@pytest.mark.parametrize("vocabulary", [CHARACTERS, PIECES, BYTES], ids=["characters", "pieces", "bytes"])
@pytest.mark.parametrize("text", TEMPLATES)
def test_every_candidate_can_be_filled_and_only_as_asked(text: str, vocabulary: Vocabulary) -> None:
    template = parse_template(text)
    candidates = fill(template, vocabulary, 24, most=9)
    assert 1 <= len(candidates) <= 9 and len({c.tokens for c in candidates}) == len(candidates)
    judge = re.compile(pattern(template), re.DOTALL)
    for candidate in candidates:
        assert candidate.state.shape == (24,) and candidate.state.dtype == torch.int64
        assert all(judge.fullmatch(t) for t in texts(candidate, vocabulary))


def test_characters_have_one_candidate_for_each_combination_of_lengths() -> None:
    candidates = fill(parse_template("a[[gap:2-4]],[[gap:1-3]]."), CHARACTERS, 12)
    assert [c.tokens for c in candidates] == [(i, j) for i in (2, 3, 4) for j in (1, 2, 3)]
    a, comma, dot, mask, end = (CHARACTERS.pieces.index(p) for p in (b"a", b",", b".", b"", b""))
    mask = CHARACTERS.size
    assert candidates[4].state.tolist() == [a, *[mask] * 3, comma, *[mask] * 2, dot, *[end] * 4]


def test_many_combinations_are_thinned_evenly_and_keep_both_ends() -> None:
    candidates = fill(parse_template("[[gap:1-90]]a"), CHARACTERS, 100, most=10)
    counts = [c.tokens[0] for c in candidates]
    assert counts[0] == 1 and counts[-1] == 90 and len(counts) == 10
    steps = [b - a for a, b in itertools.pairwise(counts)]
    assert max(steps) - min(steps) <= 1
    assert len(fill(parse_template("[[gap]]a[[gap]]b[[gap]]c[[gap:2]]"), CHARACTERS, 128, most=10)) == 10


def test_a_text_to_be_continued_needs_no_constraint() -> None:
    (only,) = fill(parse_template("ab [[gap]]"), PIECES, 10)
    assert only.automaton is None
    assert PIECES.encode("ab ") == only.state[: len(PIECES.encode("ab "))].tolist()
    assert (only.state[len(PIECES.encode("ab ")) :] == PIECES.size).all()
    assert all(t.startswith("ab ") for t in texts(only, PIECES))


def test_a_gap_of_pieces_may_have_any_number_of_tokens_that_can_write_it() -> None:
    # Six characters in pieces of 1, 2, 3 or 4: from two tokens (4 + 2, 3 + 3) to six.
    assert [c.tokens[0] for c in fill(parse_template("a[[gap:6]]."), PIECES, 20)] == [2, 3, 4, 5, 6]
    only_pairs = Vocabulary((b"ab", b"."[:0], b"cd"))
    assert [c.tokens[0] for c in fill(parse_template("ab[[gap:4]]"), only_pairs, 20)] == [2]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(
        UserError, match="window of 10 tokens: its text alone takes 2, and the longest gap is at character 3"
    ):
        fill(parse_template("ab[[gap:12]]"), CHARACTERS, 10)
    with pytest.raises(UserError, match="does not fit into the model's window of 10 tokens"):
        fill(parse_template("[[gap]]b[[gap:1000000]]"), PIECES, 10)
    with pytest.raises(UserError, match="cannot write 'xy' of the template"):
        fill(parse_template("axby[[gap]]"), CHARACTERS, 10)
    with pytest.raises(UserError, match="cannot write any text that satisfies a length from 3 to 3"):
        fill(parse_template("[[gap:3]]"), Vocabulary((b"ab", b"")), 10)
    assert len(fill(parse_template("ab[[gap:8]]"), CHARACTERS, 10)) == 1
