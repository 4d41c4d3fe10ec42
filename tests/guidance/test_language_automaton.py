"""Automata over characters accept exactly what they should: Python's own `re` and plain string tests are the judges."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuosan.errors import UserError
from kuosan.guidance.language import avoiding, containing, ending, intersection, length, matching, starting
from kuosan.guidance.language.automaton import DEAD, Automaton
from kuosan.guidance.language.utf8 import Utf8, utf8

PATTERNS = [
    r"(a|b)*abb",
    r"a{2,4}b?",
    r"[^ab]*c",
    r"(?i)abk+",
    r"\w+ \d{1,3}",
    r"(a*)*b",
    r"(a?){3}",
    r"(ab|a)(c|bcd)(d*)",
    r".*",
    r"(?s:.*a.{2})",
    r"[+-]?\d+(\.\d+)?",
    r"a|",
    r"^$",
    r"^ab|ba$",
    r"(^a)?b",
    r"[\w-]*",
    r"(?a:\w+)",
    r"\Aab\Z",
    r"(?:(?i:a)b)+",
    r"x*(ab?){0,5}",
    r"\S\s\D\W?",
    r"(?:a+?|b)c{2}",
    r"[一-龥]{1,2}[^，]",
]
LETTERS = "abck AB1K\u212a-+.\né中，9_"  # with the Kelvin sign, another case of k


def texts(letters: str, longest: int) -> list[str]:
    return ["".join(t) for n in range(longest + 1) for t in itertools.product(letters, repeat=n)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_accepts_what_python_matches_as_a_whole(pattern: str) -> None:
    automaton, judge = matching(pattern), re.compile(pattern)
    for text in texts("abc", 5) + texts(LETTERS, 2):
        assert automaton.accepts(text) == (judge.fullmatch(text) is not None), text


@given(st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", ""]),
    lambda x: st.one_of(
        st.tuples(x, x).map("".join),
        st.tuples(x, x).map(lambda p: f"(?:{p[0]}|{p[1]})"),
        st.tuples(x, st.sampled_from(["*", "?", "+", "{2}", "{1,3}", "{2,}"])).map(lambda p: f"(?:{p[0]}){p[1]}"),
    ),
    max_leaves=6,
))  # fmt: skip
def test_nested_patterns_mean_what_they_mean_to_python(pattern: str) -> None:
    automaton, judge = matching(pattern), re.compile(pattern)
    assert [automaton.accepts(t) for t in SHORT] == [judge.fullmatch(t) is not None for t in SHORT]


SHORT = texts("abc", 4)


@pytest.mark.parametrize("ignore_case", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_words_are_found_wherever_they_stand(ignore_case: bool, whole: bool) -> None:
    need = containing("ab", "ba", ignore_case=ignore_case, whole=whole)
    avoid = avoiding("ab", "bc", ignore_case=ignore_case, whole=whole)
    for text in texts("abcA ", 5):
        seen = text.lower() if ignore_case else text
        found = set(re.findall(r"\w+", seen)) if whole else {w for w in ("ab", "ba", "bc") if w in seen}
        assert need.accepts(text) == ({"ab", "ba"} <= found), text
        assert avoid.accepts(text) == (not {"ab", "bc"} & found), text


def test_beginnings_ends_and_lengths_count_characters() -> None:
    both = intersection(starting("é"), ending("中"), length(2, 3))
    for text in texts("é中a", 4):
        assert both.accepts(text) == (text[:1] == "é" and text[-1:] == "中" and 2 <= len(text) <= 3), text


def test_joining_and_inverting_follow_set_algebra() -> None:
    a, b = matching("a[ab]*|c"), matching("[ab]*b|c")
    both, neither, either = a & b, ~a & ~b, ~(~a & ~b)
    for text in texts("abc", 4):
        in_a, in_b = a.accepts(text), b.accepts(text)
        assert both.accepts(text) == (in_a and in_b)
        assert neither.accepts(text) == (not in_a and not in_b)
        assert either.accepts(text) == (in_a or in_b)


def test_an_automaton_is_the_smallest() -> None:
    # Known answers: texts that contain a word of n letters need n + 1 states; n to m characters need m + 1.
    assert len(containing("mouse").table) == 6
    assert len(length(3, 17).table) == 18
    assert matching("(a|aa|aaa)*").table.shape == (1, 2)  # a, and all else
    assert len((containing("a") & ~containing("ab") & containing("a")).table) == 3


def test_classes_of_characters_are_symbolic() -> None:
    assert matching("[^x]*").table.shape == (1, 2)
    assert matching("[\U00010000-\U0010ffff]").table.shape == (2, 2)
    assert (np.diff(matching(r"\w").classes.starts) > 0).all()


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(a", "no regular expression"),
        (r"(a)\1", "reference"),
        ("(?=a)b", "look-around"),
        (r"a\b", "anchor"),
        ("a++", "possessive"),
        ("((a{300}){300}){9}", "too large"),
        ("a^b", "no text satisfies"),
        (r"[^\x00-\U0010ffff]", "no text satisfies"),
    ],
)
def test_patterns_that_cannot_be_followed_are_the_users_to_mend(pattern: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        matching(pattern)


def test_contradictions_are_named() -> None:
    with pytest.raises(UserError, match="no text satisfies .*'whale'.* and .*'ale'"):
        containing("whale") & avoiding("ale")
    with pytest.raises(UserError, match="no text satisfies not"):
        ~matching("(?s:.*)")
    with pytest.raises(UserError, match="rising range"):
        length(5, 3)
    with pytest.raises(UserError, match="empty"):
        avoiding("a", "")


def _bytes_accepted(automaton: Automaton, reader: Utf8, text: bytes) -> bool | None:
    """By way of bytes; None where they are no UTF-8."""
    read = reader.read(text, 0)
    if read is None or read[1]:
        return None
    state = 0
    for c in read[0]:
        state = int(automaton.table[state, c]) if state != DEAD else DEAD
    return state != DEAD and bool(automaton.accepting[state])


SCRIPTS = matching(r"(?s:[a-zé-中\U0001f600-\U0001f64f\ud000-\uffff]*.?)")
READER = utf8(SCRIPTS.classes)


@given(
    st.one_of(st.text(max_size=5).map(lambda t: t.encode("utf-8", "surrogatepass")), st.binary(max_size=6))
)
def test_bytes_are_read_as_their_characters(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert _bytes_accepted(SCRIPTS, READER, data) is None
    else:
        assert _bytes_accepted(SCRIPTS, READER, data) == SCRIPTS.accepts(text)


def test_every_boundary_of_utf8_is_a_boundary_of_the_reader() -> None:
    reader = utf8(matching("(?s:.*)").classes)
    for first in range(0xC0, 0x100):
        for second in (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0):
            for rest in (b"", b"\x80", b"\xbf\xbf", b"\x80\x80"):
                data = bytes([first, second]) + rest
                try:
                    data.decode()
                    valid = True
                except UnicodeDecodeError:
                    valid = False
                read = reader.read(data, 0)
                assert (read is not None and read[1] == 0) == valid, data
