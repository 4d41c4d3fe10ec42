"""Templates: text with gaps for a model to fill.

    Dear [[gap:5-12]],\\n[[gap]]

`[[gap:20]]` is a gap of twenty characters, `[[gap:5-12]]` one of five to twelve, `[[gap]]` one of any length. To write
two opening brackets, put a backslash before them: ``\\[[``; before a gap, ``\\\\`` is a backslash.

A diffusion model fills gaps at once and sees what stands on both sides, but it must know how many tokens a gap
has before it starts. Hence `fill` lays the template out in several ways, the *candidates*: one for each combination
of token counts, spread evenly where there are too many to try; whoever samples from them keeps the likeliest.
(A gap whose length is left to the automaton alone would be filled by a network that does not know where the text
after it stands.) Every candidate comes with the template as a constraint on characters, so that what is written
fits it, whatever the tokens: no gap ends the text early or has a character too many. A free gap at the very end
is the rest of the window; what it writes is the model's affair, and it needs no constraint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.errors import UserError
from kuosan.guidance.language.automaton import Automaton
from kuosan.guidance.language.patterns import length as characters
from kuosan.guidance.language.regex import matching
from kuosan.guidance.language.tokens import lift

T = TypeVar("T")

_TRIED = 50_000
"""Combinations looked at before the candidates are chosen among those that fit."""


class Tokeniser(Protocol):
    """What a template needs of a vocabulary."""

    @property
    def size(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def pieces(self) -> tuple[bytes, ...]: ...
    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class Gap:
    """``least`` to ``most`` characters to be written (None: any number), at character ``place`` of the template."""

    least: int
    most: int | None
    place: int


@dataclass(frozen=True)
class Template:
    """Literal texts and gaps, in order; made by `parse_template`."""

    parts: tuple[str | Gap, ...]

    @property
    def gaps(self) -> tuple[Gap, ...]:
        return tuple(part for part in self.parts if isinstance(part, Gap))

    @property
    def open_end(self) -> bool:
        """Whether the last part is a free gap: a text to be continued."""
        last = self.parts[-1]
        return isinstance(last, Gap) and last.most is None and last.least == 0

    @property
    def automaton(self) -> Automaton:
        """The texts that fit the template."""
        pattern = "".join(
            f"(?s:.{{{p.least},{'' if p.most is None else p.most}}})" if isinstance(p, Gap) else re.escape(p)
            for p in self.parts
        )
        return matching(pattern, what="the template")


@dataclass(frozen=True)
class Candidate:
    """One way to lay a template out in tokens.

    Args:
        state: (L,) token numbers, ``size`` for masks; END after the end of a text that has one.
        tokens: the number of tokens of every gap.
        automaton: the constraint to sample under; None where none is needed.
    """

    state: Int64[Tensor, " L"]
    tokens: tuple[int, ...]
    automaton: Automaton | None


_GAP = r"gap(?::(\d+)(?:-(\d+))?)?\]\]"
_MARK = re.compile(rf"(\\*)\[\[(?!\[{_GAP})(?:{_GAP})?")  # of three brackets before a gap, the first is text


def parse_template(text: str) -> Template:
    r"""Read ``[[gap]]``, ``[[gap:20]]`` and ``[[gap:5-12]]``; ``\[[`` writes two brackets.

    Raises:
        UserError: a gap is malformed, empty or has a reversed range (the message says at which character), or the
            template has no gap at all.
    """
    parts: list[str | Gap] = []
    literal, start = "", 0
    for mark in _MARK.finditer(text):
        slashes, *_, least, most = mark.groups()
        literal += text[start : mark.start()] + "\\" * (len(slashes) // 2)
        start = mark.end()
        place = mark.start() + len(slashes) + 1
        where = f"at character {place} of the template"
        if len(slashes) % 2:
            literal += mark.group()[len(slashes) :]
        elif not mark.group().endswith("]]"):
            raise UserError(
                f"{text[place - 1 : place + 11]!r} {where} is no gap: write [[gap]], [[gap:20]] or [[gap:5-12]], "
                r"or \[[ for two brackets"
            )
        else:
            if least is not None and int(most or least) == 0:
                raise UserError(f"the gap {where} has no characters: give it at least one, or leave it away")
            if most is not None and int(most) < int(least):
                raise UserError(
                    f"the gap {where} ranges from {least} down to {most}: give the smaller number first"
                )
            parts += [literal] if literal else []
            parts.append(Gap(int(least or 0), None if least is None else int(most or least), place))
            literal = ""
    literal += text[start:]
    parts += [literal] if literal else []
    if not any(isinstance(p, Gap) for p in parts):
        raise UserError(
            "the template has no gap, so nothing is left to write: mark one as [[gap]] or [[gap:20]]"
        )
    return Template(tuple(parts))


def fill(template: Template, tokeniser: Tokeniser, length: int, most: int = 16) -> tuple[Candidate, ...]:
    """Lay a template out in a window of ``length`` tokens, in up to ``most`` ways, in the order of the gaps' lengths.

    Raises:
        UserError: the vocabulary cannot write the template's text or a gap, or the window is too short for them.
    """
    texts = [_encoded(p, tokeniser) if isinstance(p, str) else None for p in template.parts]
    written = sum(len(t) for t in texts if t is not None)
    counts = [_counts(gap, tokeniser, length) for gap in template.gaps]
    if template.open_end:
        counts[-1] = [0]  # it takes what is left
    shortest = [min(c, default=length + 1) for c in counts]
    if written + sum(shortest) > length:
        gap = template.gaps[shortest.index(max(shortest))]
        raise UserError(
            f"the template does not fit into the model's window of {length} tokens: its text alone takes {written}, "
            f"and the longest gap is at character {gap.place}; shorten them"
        )
    room = length - written - sum(shortest)
    each = max(2, int(_TRIED ** (1 / len(counts))))
    usable = [[k for k in c if k <= least + room] for c, least in zip(counts, shortest, strict=True)]
    fitting = [c for c in product(*(_spread(k, each) for k in usable)) if written + sum(c) <= length]
    automaton = None if template.open_end and len(template.gaps) == 1 else template.automaton
    return tuple(
        Candidate(_state(template, texts, c, tokeniser, length), c, automaton) for c in _spread(fitting, most)
    )


def _encoded(text: str, tokeniser: Tokeniser) -> list[int]:
    tokens = tokeniser.encode(text)
    if b"".join(tokeniser.pieces[v] for v in tokens) != text.encode():
        strange = "".join(dict.fromkeys(c for c in text if not _writes(c, tokeniser)))
        raise UserError(
            f"the model's vocabulary cannot write {strange or text!r} of the template: use characters that its "
            "training texts have"
        )
    return tokens


def _writes(text: str, tokeniser: Tokeniser) -> bool:
    return b"".join(tokeniser.pieces[v] for v in tokeniser.encode(text)) == text.encode()


def _counts(gap: Gap, tokeniser: Tokeniser, window: int) -> list[int]:
    """With how many tokens, up to the window, the gap's characters can be written."""
    if gap.least > window * max(map(len, tokeniser.pieces)):
        return []
    return lift(characters(gap.least, gap.most), tokeniser.pieces, tokeniser.end).token_counts(window)


def _spread(items: Sequence[T], most: int) -> list[T]:
    """Up to ``most`` of the items, both ends among them, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(most - 1, 1))] for i in range(most)]


def _state(
    template: Template,
    texts: Iterable[list[int] | None],
    counts: tuple[int, ...],
    tokeniser: Tokeniser,
    length: int,
) -> Int64[Tensor, " L"]:
    masks = iter(counts)
    row = [v for tokens in texts for v in ([tokeniser.size] * next(masks) if tokens is None else tokens)]
    rest = tokeniser.size if template.open_end else tokeniser.end
    return torch.tensor([*row, *[rest] * (length - len(row))])
