"""Captions: a column of free text as a condition, and the numbers that a network reads it as.

A condition of words is a row of token numbers per item, (n, length), and a caption that is hidden, or that nobody gave,
is a row of END alone.  So whatever hides a class hides a caption too: its null index is that of END, in every place.

The rule of "auto".  Free text has two words or more on average.  It is the first of the columns `NAMED` that is free
text with more than `FEW` distinct values; else the wordiest one that is not categorical (see `columns`).  Keywords
beside it are put behind it.  What has few values that return stays categorical, whatever it is called, and is none.

Text is read in lower case with its white space collapsed.  The tokeniser is trained on the captions of the training
items alone, in byte pairs, so that frequent words are one token and nothing is unreadable; or it is that of a text
encoder of somebody else's, which then comes with its tokens of beginning and end.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities.base import MANY_VALUES, Choice
from kuosan.modalities.tables import CAPTIONS
from kuosan.modalities.tokeniser import FILE, Tokeniser
from kuosan.modalities.tokeniser_training import train_tokeniser

CAPTION = "caption"
"""What the condition is called, whatever its column is."""
KEPT = "captions.json"
NAMED = ("caption", "captions", "prompt", "text", "description", "title", "name")
KEYWORDS = ("keywords", "tags")
FEW = 20  # values: a column with as many or fewer is better a list to choose from
MOST_TOKENS, SPARE = 64, 8
MOST_KEPT, SHOWN = 10_000, 8
LISTED, THINNED = (
    3.0,
    0.3,
)  # parts of a caption from which it is a list of keywords; share of them that is left out
_FEWEST_TOKENS, _MOST_WORDS, _SEEN = 512, 8_192, 3
_WORDS = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
_LETTERS = re.compile(r"[^\W\d_]")

Columns = Mapping[str, Sequence[str | None]]


def words(text: str) -> list[str]:
    """The words of a text in lower case; of scripts that have no spaces each character."""
    return _WORDS.findall(text.lower())


def plain(text: str | None) -> str:
    """The text as it is read."""
    return " ".join((text or "").lower().split())


def caption_columns(columns: Columns, declared: frozenset[str], asked: str = "auto") -> tuple[str, ...]:
    """The columns that are the caption, in the order in which they are put together; none where there is none.

    Args:
        declared: conditions whatever is in them.
        asked: "auto", "none", or names of columns joined by "+".

    Raises:
        UserError: a column that is not there.
    """
    if asked == "none":
        return ()
    if asked != "auto":
        names = tuple(name.strip() for name in asked.split("+"))
        names = tuple(CAPTION if name in CAPTIONS and name not in columns else name for name in names)
        if missing := [name for name in names if name not in columns]:
            raise UserError(
                f"data.caption={asked} asks for the column '{missing[0]}', and this data has "
                f"{', '.join(sorted(columns)) or 'none'}: name one of these, several with +, or off"
            )
        return names
    prose = {name: count for name, column in columns.items() if (count := _wordiness(column)) >= 2}
    distinct = {name: len({value for value in columns[name] if value}) for name in prose}
    folded = {name.casefold(): name for name in prose if name not in declared and distinct[name] > FEW}
    found = next((folded[name] for name in NAMED if name in folded), None)
    if found is None:
        others = [name for name in folded.values() if _is_free(columns[name])]
        found = max(others, key=lambda name: (prose[name], name), default=None)
    if found is None:
        return ()
    more = next((folded[name] for name in KEYWORDS if name in folded and folded[name] != found), None)
    return (found,) if more is None else (found, more)


def joined(columns: Columns, names: Sequence[str], n: int) -> list[str]:
    """The caption of each item, "" where it has none."""
    rows = zip(*(columns[name] for name in names), strict=True) if names else iter([()] * n)
    return [", ".join(part for value in row if (part := plain(value))) for row in rows]


def _wordiness(column: Sequence[str | None]) -> float:
    """Words per value, 0 where most have no letters."""
    known = [value for value in column if value]
    lettered = sum(bool(_LETTERS.search(value)) for value in known)
    if 2 * lettered <= len(known):
        return 0.0
    return sum(
        len(words(value)) if " " in value.strip() or not value.isascii() else 1 for value in known
    ) / len(known)


def _is_free(column: Sequence[str | None]) -> bool:
    """Whether a column is no categorical one by its counts."""
    known = [value for value in column if value]
    distinct = len(set(known))
    return distinct > MANY_VALUES or 2 * distinct >= len(known)


@dataclass(frozen=True, eq=False)
class Captions:
    """How captions are read, and which there were.

    Args:
        tokeniser: its END fills what is left behind a text.
        length: tokens that are read at most.
        column: what they were read from, such as "name+keywords".
        foreign: the tokeniser is somebody else's, and puts its own tokens around a text.
        thin: share of the parts between commas that training leaves out, never the first: of lists of keywords.
        words: all that occur in training.
        items: captions of training with the places of their item in the vocabulary of each categorical condition, as
            often as they occur there, of many items as many as `MOST_KEPT`, evenly chosen.
        shown: captions of some held-out items.
    """

    tokeniser: Tokeniser
    length: int
    column: str = CAPTION
    foreign: bool = False
    thin: float = 0.0
    words: frozenset[str] = frozenset()
    items: tuple[tuple[str, tuple[int, ...]], ...] = ()
    shown: tuple[str, ...] = ()

    @property
    def null(self) -> int:
        """The number of every token of a caption that is hidden."""
        return self.tokeniser.end

    @property
    def leaves(self) -> dict[str, Any]:
        """The arguments of `learn_captions` that give this reading of the same captions."""
        own = {} if self.foreign else {"vocabulary": self.tokeniser.size}
        return {"length": self.length, "thin": self.thin, **own}

    def encoded(self, text: str) -> list[int]:
        """All tokens of a text, however many."""
        text = plain(text)
        if not text:
            return []
        if self.foreign:
            return list(self.tokeniser.library.encode(text).ids)
        return self.tokeniser.encode(" " + text)  # a word is the same token wherever it stands

    def rows(self, texts: Sequence[str]) -> Int64[Tensor, "n l"]:
        """Token numbers; of one that is too long the first, and the last, which of somebody else's is an end."""
        out = torch.full((len(texts), self.length), self.null, dtype=torch.int64)
        for row, text in zip(out, texts, strict=True):
            ids = self.encoded(text)
            if len(ids) > self.length:
                ids = [*ids[: self.length - 1], ids[-1]] if self.foreign else ids[: self.length]
            row[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return out

    def text(self, row: Sequence[int]) -> str | None:
        """The text of token numbers; None where it is hidden."""
        ids = [int(i) for i in row if int(i) != self.null]
        if not ids:
            return None
        if self.foreign:
            return str(self.tokeniser.library.decode(ids, skip_special_tokens=True)).strip()
        return self.tokeniser.decode(ids).strip()

    def remarks(self, text: str) -> list[str]:
        """What a person who asks for this should know: words that training never had, and what is cut off."""
        out = []
        if unknown := list(dict.fromkeys(word for word in words(text) if word not in self.words)):
            quoted = ", ".join(f"'{word}'" for word in unknown)
            out.append(
                f"no caption of the training data has {quoted}: the model can only guess what is meant"
            )
        if (count := len(self.encoded(text))) > self.length:
            out.append(f"'{text}' has {count} tokens, and only the first {self.length} are read")
        return out

    def thinned(self, texts: Sequence[str], seeds: Seeds) -> Int64[Tensor, "b l"]:
        """Tokens of captions as training sees them: without some of their parts."""
        parts = [text.split(",") for text in texts]
        most = max(map(len, parts), default=1)
        drawn = seeds.fold("parts").uniform(torch.empty(len(texts), most, dtype=torch.float64)).tolist()
        kept = [
            ",".join(part for k, part in enumerate(row) if k == 0 or u[k] >= self.thin)
            for row, u in zip(parts, drawn, strict=True)
        ]
        return self.rows(kept)

    def of(self, texts: Sequence[str], places: Sequence[Sequence[int]], shown: Sequence[str]) -> Captions:
        """The same reading, of these training captions and some held-out ones."""
        chosen = _evenly(len(texts), MOST_KEPT)
        known = self.words | {word for text in texts for word in words(text)}
        items = tuple((texts[i], tuple(places[i])) for i in chosen)
        told = [text for text in dict.fromkeys(shown) if text]
        return replace(
            self, words=frozenset(known), items=items, shown=tuple(told[i] for i in _evenly(len(told), SHOWN))
        )

    def files(self) -> dict[str, bytes]:
        """What a run keeps of it, by the names of files."""
        tree = {
            "column": self.column, "length": self.length, "foreign": self.foreign, "thin": self.thin,
            "words": sorted(self.words),
            "items": [[text, list(row)] for text, row in self.items], "shown": list(self.shown),
        }  # fmt: skip
        text = json.dumps(tree, ensure_ascii=False, indent=0)
        return {FILE: self.tokeniser.to_json(), KEPT: text.encode("utf-8", "replace")}

    @classmethod
    def from_files(cls, read: Callable[[str], bytes]) -> Captions:
        """The inverse of `files`.  Raises `UserError` where they are damaged."""
        tokeniser = Tokeniser.from_json(read(FILE))
        try:
            tree = json.loads(read(KEPT))
            return cls(
                tokeniser, int(tree["length"]), str(tree["column"]), bool(tree["foreign"]), float(tree["thin"]),
                frozenset(tree["words"]),
                tuple((str(text), tuple(map(int, row))) for text, row in tree["items"]), tuple(tree["shown"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{KEPT} is damaged ({error}): restore it from a copy of the run") from error


def learn_captions(
    texts: Sequence[str],
    column: str,
    *,
    tokeniser: Tokeniser | None = None,
    vocabulary: int | str = "auto",
    length: int | str = "auto",
    thin: float | str = "auto",
) -> tuple[Captions, list[Choice]]:
    """How to read captions like these, with a ``tokeniser`` of somebody else's or one that is trained on them.

    Raises:
        UserError: there is no text in them.
    """
    texts = [text for text in texts if text]
    if not texts:
        raise UserError(
            f"the column {column} holds no text to train on: name another with data.caption, or none"
        )
    counts = Counter(word for text in texts for word in words(text))
    choices: list[Choice] = []
    foreign = tokeniser is not None
    if tokeniser is None:
        often = sum(n >= _SEEN for n in counts.values())
        size = max(_FEWEST_TOKENS, min(_MOST_WORDS, 257 + 2 * often)) if vocabulary == "auto" else vocabulary
        tokeniser, _ = train_tokeniser([" " + plain(text) for text in texts], "bpe", size)
        what = f"{tokeniser.size:,} tokens"
        choices.append(
            ("caption.vocabulary", what, f"{often:,} of {len(counts):,} words occur {_SEEN} times or more")
        )
    reading = Captions(tokeniser, MOST_TOKENS, column, foreign)
    longest = max(len(reading.encoded(text)) for text in texts)
    if length == "auto":
        most = min(longest + max(SPARE, longest // 2), MOST_TOKENS)
        cut = sum(len(reading.encoded(text)) > most for text in texts) if longest > most else 0
        why = f"the longest has {longest}, wishes may be longer" + (f"; {cut:,} are cut" if cut else "")
    else:
        most, why = int(length), "asked for"
    choices.append(("caption.length", f"{most} tokens", why))
    parts = sum(len(text.split(",")) for text in texts) / len(texts)
    listed = f"{parts:.1f} parts between commas on average"
    if thin == "auto":
        thin, why = (THINNED, f"{listed}: keywords") if parts >= LISTED else (0.0, f"{listed}: sentences")
    else:
        why = "asked for"
    choices.append(("caption.thin", f"{thin:g}", why))
    return replace(reading, length=most, thin=float(thin)), choices


def _evenly(count: int, most: int) -> list[int]:
    """Numbers below ``count``, ``most`` of them at most, evenly spread."""
    few = min(count, most)
    return [i * count // few for i in range(few)]
