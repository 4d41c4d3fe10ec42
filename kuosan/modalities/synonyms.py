"""More text out of little: words replaced by synonyms.

A small corpus is soon learned by heart. Replacing some words of every text by words of the same meaning, anew each time
it is shown, makes it larger, at the price of sentences that nobody would write (Zhang et al. 2015, section 4). It is
right for classifying and for gist, and wrong where the very word matters: names, terms, verse.

A table says which words may stand for which. WordNet's form, one group of synonyms a line, is read as it is; so is the
user's own table of two columns:

    identifier <TAB> category <TAB> word|word|…          groups: each may stand for the others       (WordNet)
    word <TAB> synonym|synonym|…                          one-way: the synonyms may stand for the word

A replacement takes the case of what it replaces (`word`, `Word`, `WORD`), and nothing else: an inflected form is
replaced only where the table has that form. Only whole words are, the longest entry first; in scripts without blanks,
where no mark says what a word is, the longest entry that begins at a character (maximum matching). Sense is not
looked at: the larger the table, the more wrong senses. WordNet knows "a" as a vitamin, "in" as a metal and "it" as a
trade, so function words and single letters of its form are left out; a table of the user's own is taken as it is.

Chance: each word that has synonyms is replaced with probability `rate`, by one of them with equal chances. The draws
come from a key per text (`Seeds`), so a text gets the same replacements whatever its neighbours.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from kuosan.core.random import Seeds
from kuosan.errors import UserError

_BLANKLESS = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u3040-\u312f\u31a0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
FUNCTION_WORDS = frozenset(
    """a about above after again against all am an and any are as at be because been before being below between both
    but by can could did do does doing down during each even ever few for from further had has have having he her here
    hers herself him himself his how i if in into is it its itself just may me might mine more most much must my myself
    neither no nor not now of off on once one only or other our ours ourselves out over own same shall she should so
    some such than that the their theirs them themselves then there these they this those though through thus till to
    too under until up upon us very was we well were what when where whether which while who whom whose why will with
    within without would yet you your yours yourself yourselves an't thou thee thy thine art hath doth""".split()
)
_WORD = re.compile(r"\w+(?:['’\-]\w+)*")


@dataclass(frozen=True)
class Synonyms:
    """What may stand for each word; words are lower case, and no word is its own synonym."""

    words: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, table: Mapping[str, Iterable[str]]) -> Synonyms:
        """From a plain mapping; case is folded, doubles and words without synonyms are dropped."""
        found: dict[str, dict[str, None]] = {}
        for word, others in table.items():
            key = word.strip().lower()
            rest = (other.strip() for other in others)
            found.setdefault(key, {}).update({o: None for o in rest if o and o.lower() != key})
        return cls(MappingProxyType({k: tuple(v) for k, v in found.items() if k and v}))

    @cached_property
    def reach(self) -> Mapping[str, int]:
        """How many words the longest entry that begins with a word has, of entries of several words."""
        found: dict[str, int] = {}
        for parts in (word.split() for word in self.words if " " in word):
            found[parts[0]] = max(found.get(parts[0], 1), len(parts))
        return MappingProxyType(found)

    @cached_property
    def longest_characters(self) -> int:
        """Characters in the longest entry; 0 for an empty table."""
        return max(map(len, self.words), default=0)

    def only_single(self) -> Synonyms:
        """The same table without entries and synonyms of several words, which would change the count of words."""
        return Synonyms.of(
            {w: [o for o in others if _single(o)] for w, others in self.words.items() if _single(w)}
        )


def _single(word: str) -> bool:
    return _WORD.fullmatch(word) is not None


def read_synonyms(path: Path | str, categories: Sequence[str] | None = None) -> Synonyms:
    """The table in a .tsv or .tsv.gz file, UTF-8, in one of the two forms above; lines that begin with # are comments.

    `categories` keeps the groups of these categories only, such as "adj.all". Raises UserError where the file cannot be
    read or a line has another form.
    """
    path = Path(path)
    found: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line or line.startswith("#") or line.lower() == "id\tfile\twords":
            continue
        cells = line.split("\t")
        if len(cells) not in (2, 3):
            raise UserError(
                f"Line {number} of {path} has {len(cells)} columns: give `word<TAB>synonym|synonym`, or "
                "`identifier<TAB>category<TAB>word|word` as WordNet does."
            )
        members = [word for word in cells[-1].split("|") if word.strip()]
        if len(cells) == 2:
            found.setdefault(cells[0], []).extend(members)
        elif categories is None or cells[1] in categories:
            for word in members:
                if len(word) > 1 and word.lower() not in FUNCTION_WORDS:
                    found.setdefault(word, []).extend(w for w in members if w.lower() not in FUNCTION_WORDS)
    return Synonyms.of(found)


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig").splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(
            f"The table of synonyms {path} cannot be read ({error}): give a UTF-8 .tsv or .tsv.gz file."
        ) from None


@dataclass(frozen=True)
class Match:
    """`start` to `end` of a text is the table's entry `word`."""

    start: int
    end: int
    word: str


def matches(text: str, table: Synonyms) -> Iterator[Match]:
    """The words of a text that have synonyms, from left to right and without overlap; at each place the longest."""
    found = [(m.start(), m.end()) for m in _WORD.finditer(text)]
    i = 0
    while i < len(found):
        start, end = found[i]
        i += 1
        if _BLANKLESS.search(text, start, end):
            yield from _maximum(text, start, end, table)
            continue
        most = table.reach.get(text[start:end].lower(), 1)
        for count in range(min(most, len(found) - i + 1), 0, -1):
            stop = found[i + count - 2][1]
            word = " ".join(text[start:stop].lower().split())
            if word in table.words:
                yield Match(start, stop, word)
                i += count - 1
                break


def _maximum(text: str, start: int, end: int, table: Synonyms) -> Iterator[Match]:
    """Maximum matching within a run of characters without blanks."""
    while start < end:
        for stop in range(min(end, start + table.longest_characters), start, -1):
            if text[start:stop].lower() in table.words:
                yield Match(start, stop, text[start:stop].lower())
                start = stop
                break
        else:
            start += 1


def like(word: str, pattern: str) -> str:
    """`word` in the case of `pattern`: all capitals (of two letters or more), a first capital, or as it stands."""
    letters = [c for c in pattern if c.isalpha()]
    if len(letters) > 1 and all(c.isupper() for c in letters):
        return word.upper()
    if letters and letters[0].isupper():
        return word[:1].upper() + word[1:]
    return word


def replace(texts: Sequence[str], table: Synonyms, seeds: Seeds, rate: float = 0.1) -> list[str]:
    """Each text with a share `rate` of the words that have synonyms replaced; a key of `seeds` for each text.

    Raises ValueError for a rate outside [0, 1] or another number of seeds.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"the rate of replacement must lie in [0, 1], got {rate}")
    if len(seeds) != len(texts):
        raise ValueError(f"{len(seeds)} seeds for {len(texts)} texts: each text needs its own")
    return [_replaced(text, table, seeds[i : i + 1], rate) for i, text in enumerate(texts)]


def _replaced(text: str, table: Synonyms, seeds: Seeds, rate: float) -> str:
    # A generator of the key alone: two numbers per match are drawn, replaced or not, so rates nest.
    generator = np.random.default_rng(seeds.fold("synonyms").number())
    parts, done = [], 0
    for match in matches(text, table):
        chance, which = generator.random(2)
        if chance >= rate:
            continue
        others = table.words[match.word]
        parts += [
            text[done : match.start],
            like(others[int(which * len(others))], text[match.start : match.end]),
        ]
        done = match.end
    return "".join([*parts, text[done:]])
