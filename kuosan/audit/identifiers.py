"""What in a text could identify a person: names, dates, numbers, addresses.

A generative model of people's texts may write down what it has read. `scan` looks through texts (samples, or the
training texts themselves) for the kinds of identifiers that the American rule on health data lists (45 CFR 164.514
(b)(2), "safe harbor") and that leave a trace in spelling, in English and in Chinese:

    name                 after a title, in a field such as "name:", a common given name before a capitalised word
    date                 more exact than a year
    email, phone number, address
    record number        of records, insurances, accounts, after a word that says so
    social security number, identity number, card number      by form and check digit

Each finding says whether it stands word for word in the training texts: an identifier that a model made up is a
coincidence, one that it repeats is a leak (or a public figure: a person has to look).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kuosan.audit.patterns import PATTERNS

KINDS = tuple(dict.fromkeys(pattern.kind for pattern in PATTERNS))
NOTE = (
    "A scan by patterns finds what looks like an identifier; it cannot prove that there is none. Names without a title "
    "or a field, rare names, nicknames, other languages and facts that identify only together are not found."
)


@dataclass(frozen=True)
class Finding:
    """`text`, from `start` to `end` of text number `index`, looks like an identifier of this `kind`.

    `in_training` says whether it stands word for word in a training text; None where none were given.
    """

    kind: str
    index: int
    start: int
    end: int
    text: str
    in_training: bool | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Scan:
    """All findings in the order of the texts, how many there are of each kind, and what the scan is worth."""

    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    texts: int
    note: str = NOTE

    @property
    def leaked(self) -> tuple[Finding, ...]:
        """The findings that stand in the training texts."""
        return tuple(finding for finding in self.findings if finding.in_training)

    def to_json(self) -> dict[str, Any]:
        return {
            "texts": self.texts,
            "texts_with_findings": len({f.index for f in self.findings}),
            "counts": dict(self.counts),
            "in_training": len(self.leaked),
            "findings": [finding.to_json() for finding in self.findings],
            "note": self.note,
        }


def _findings(index: int, text: str) -> list[Finding]:
    """Findings that do not overlap; where several patterns meet, the one listed first wins."""
    found: list[Finding] = []
    taken = bytearray(len(text))
    for pattern in PATTERNS:
        group = "it" if "it" in pattern.pattern.groupindex else 0
        for match in pattern.pattern.finditer(text):
            start, end = match.span(group)
            if any(taken[start:end]) or not pattern.check(text[start:end]):
                continue
            taken[start:end] = b"\1" * (end - start)
            found.append(Finding(pattern.kind, index, start, end, text[start:end]))
    return sorted(found, key=lambda finding: finding.start)


def scan(texts: Sequence[str], training: Sequence[str] | None = None) -> Scan:
    """Everything in the texts that looks like an identifier, and whether it stands in the training texts.

    Counts name every kind of `KINDS`, also those that were not found.
    """
    found = [finding for index, text in enumerate(texts) for finding in _findings(index, text)]
    if training is not None:
        joined = "\0".join(training)  # no identifier holds a NUL, so none is found across two texts
        known = {text: text in joined for text in {finding.text for finding in found}}
        found = [Finding(f.kind, f.index, f.start, f.end, f.text, known[f.text]) for f in found]
    counts = Counter(finding.kind for finding in found)
    return Scan(tuple(found), {kind: counts[kind] for kind in KINDS}, len(texts))
