"""What a report says about the data: the survey of a folder, arranged for reading.

A survey is a JSON object that the modality wrote, so its keys grow with the modalities. Those known here get
a place and a title of their own; any other number or text is listed under its own name, and any other
{name: count} becomes bars. Nothing that a survey says is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

from kuosan.evaluation.report_words import count, label, number

FIRST = ("files", "items", "train", "val")
TITLES = {
    "train": "For training",
    "val": "Held out",
    "classes": "Classes",
    "dtypes": "Depths",
    "duplicates": "Exact duplicates",
    "captions": "With a caption",
}
LAST = ("source", "fingerprint")
LISTS = {"skipped", "left_alone", "notes", "choices", "class_names"}  # shown in places of their own
MAX_BARS = 12


@dataclass(frozen=True)
class Bars:
    """Counts per name, longest bar 1; `rest` are those that are folded away."""

    title: str
    shown: tuple[tuple[str, str, float], ...]
    rest: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True)
class SurveyView:
    """Facts (what, value), histograms, files skipped or left alone (name, reason), sentences, and choices
    (what, value, why), which a report shows with those of the run."""

    facts: tuple[tuple[str, str], ...]
    bars: tuple[Bars, ...]
    skipped: tuple[tuple[str, str], ...]
    left_alone: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]

    def __bool__(self) -> bool:
        return bool(self.facts or self.bars or self.skipped or self.left_alone or self.notes)


def survey_view(survey: Mapping[str, Any]) -> SurveyView:
    """Arrange a survey (module docstring); an empty one gives an empty view, which is false.

    Notes may be sentences or (what, value, why); `class_names` {value: name} label the bars of the classes.
    """
    facts: list[tuple[str, str]] = []
    bars: list[Bars] = []
    middle = [key for key in survey if key not in (*FIRST, *LAST, *LISTS)]
    for key in (*FIRST, *middle, *LAST):
        value = survey.get(key)
        title = TITLES.get(key, label(key))
        if value is None or (isinstance(value, Sized) and not value):
            continue
        if not isinstance(value, Mapping):
            facts.append((title, _plain(value)))
        elif key == "totals":  # counts of different things have no common scale
            facts += [(label(str(name)), _plain(n)) for name, n in value.items()]
        elif len(value) == 1 and _is_number(next(iter(value.values()))):
            facts += [(title, f"{name} ({count(n)})") for name, n in value.items()]  # one bar shows nothing
        elif any(isinstance(item, (Mapping, str)) or not _is_number(item) for item in value.values()):
            nested = {name: item for name, item in value.items() if isinstance(item, Mapping)}
            for name, item in nested.items():
                heading = title if len(nested) == 1 else str(name)
                bars.append(_bars(heading, item, survey.get("class_names") or {}))
            plain = {name: item for name, item in value.items() if name not in nested}
            facts += _plain_group(title, plain)
        else:
            bars.append(_bars(title, value, survey.get("class_names") or {} if key == "classes" else {}))
    notes = [*(survey.get("choices") or ()), *(survey.get("notes") or ())]
    return SurveyView(
        tuple(facts),
        tuple(bars),
        _pairs(survey.get("skipped")),
        _pairs(survey.get("left_alone")),
        tuple(note for note in notes if isinstance(note, str)),
        tuple(tuple(map(str, note)) for note in notes if not isinstance(note, str)),
    )


def _plain_group(title: str, group: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Facts under one heading: those that count something, or one word that there is nothing to count."""
    told = [(name, item) for name, item in group.items() if item]
    if group and not told:
        return [(title, "none")]
    return [(f"{title}: {label(str(name)).lower()}", _plain(item)) for name, item in told]


def _pairs(rows: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(reason)) for name, reason in rows or ())


def _bars(title: str, counts: Mapping[str, float], names: Mapping[str, str]) -> Bars:
    most = max(counts.values(), default=1) or 1
    rows = tuple(
        (f"{value} · {names[value]}" if value in names else str(value), count(n), n / most)
        for value, n in counts.items()
    )
    return Bars(title, rows[:MAX_BARS], rows[MAX_BARS:])


def _is_number(x: object) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        pairs = any(isinstance(item, Sequence) and not isinstance(item, str) for item in value)
        return (
            "; ".join(" = ".join(map(str, item)) for item in value)
            if pairs
            else ", ".join(map(_plain, value))
        )
    return str(value)
