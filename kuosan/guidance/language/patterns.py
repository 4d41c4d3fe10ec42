"""The constraints that people ask for, each a pattern.

Words are looked for anywhere, inside other words too, unless ``whole`` asks for no letter, digit or underscore on
either side (Chinese and Japanese write no spaces, so for them that is rarely meant). Lengths count characters.
"""

from __future__ import annotations

import re

from kuosan.errors import UserError
from kuosan.guidance.language.automaton import Automaton, intersection
from kuosan.guidance.language.regex import matching


def containing(*words: str, ignore_case: bool = False, whole: bool = False) -> Automaton:
    """All texts in which every one of ``words`` occurs, in any order, overlapping or not.

    Raises:
        UserError: a word is empty, or none is given.
    """
    _nonempty(words, "required")
    each = (matching(_anywhere([w], whole), ignore_case, f"the required word {w!r}") for w in words)
    return intersection(*each)


def avoiding(*words: str, ignore_case: bool = False, whole: bool = False) -> Automaton:
    """All texts in which none of ``words`` occurs.

    Raises:
        UserError: a word is empty, or none is given.
    """
    _nonempty(words, "forbidden")
    found = matching(_anywhere(words, whole), ignore_case, "the forbidden words")
    listed = ", ".join(repr(w) for w in words)
    return (~found).named(f"the forbidden word{'s' * (len(words) > 1)} {listed}")


def length(least: int = 0, most: int | None = None) -> Automaton:
    """All texts of ``least`` to ``most`` characters; without ``most``, of any number from ``least`` on.

    Raises:
        UserError: fewer than 0 characters, or ``most`` below ``least``.
    """
    if least < 0 or (most is not None and most < least):
        raise UserError(
            f"a length from {least} to {most} characters is impossible: give a rising range from 0 on"
        )
    what = f"a length from {least}" + (" characters on" if most is None else f" to {most} characters")
    return matching(f"(?s:.{{{least},{'' if most is None else most}}})", what=what)


def starting(text: str) -> Automaton:
    """All texts that begin with ``text``."""
    return matching(f"{re.escape(text)}(?s:.*)", what=f"the beginning {text!r}")


def ending(text: str) -> Automaton:
    """All texts that end with ``text``."""
    return matching(f"(?s:.*){re.escape(text)}", what=f"the end {text!r}")


def _anywhere(words: tuple[str, ...] | list[str], whole: bool) -> str:
    found = "|".join(map(re.escape, words))
    return rf"(?s:(?:.*\W)?(?:{found})(?:\W.*)?)" if whole else f"(?s:.*(?:{found}).*)"


def _nonempty(words: tuple[str, ...], role: str) -> None:
    if not words or not all(words):
        raise UserError(f"a {role} word is empty: leave it away, or give at least one letter")
