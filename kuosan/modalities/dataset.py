"""A person's folder as tensors: `load(folder)`.

Storage stays compact (bytes for 8-bit pictures); `Split.batch` turns a few items into states at a time.
Items stand in the order of their names, so the same folder gives the same tensors on every file system.
"""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities.base import Choice, Gathered, Modality, Skip, Storage, modality_class
from kuosan.modalities.captions import CAPTION, Captions, caption_columns, joined, learn_captions
from kuosan.modalities.columns import Vocabulary, choose_columns, grown_columns, number_columns
from kuosan.modalities.folder import CLASS, Folder, open_folder
from kuosan.modalities.split import plan_split

_MOST_FAILED = 0.10
_REASONS_SHOWN = 5


@dataclass(frozen=True)
class Survey:
    """What was found in the data and what was decided about it; JSON-able by `to_json`.

    `files` counts data files, also those that failed; `items` what was read from them before exact copies
    were left out; `classes` the kept items of each value of each condition; `skipped` files that could not be
    read; `left_alone` what was not meant to be read; `notes` choices as (what, value, why); `fingerprint`
    the sha256 over the sorted content hashes of all items; `lengths` how many whole works (documents) are of
    which length; `totals` what else a modality counts (documents, characters, tokens).
    """

    source: str
    modality: str
    files: int
    items: int
    train: int
    val: int
    classes: dict[str, dict[str, int]]
    class_names: dict[str, str]
    sizes: dict[str, int]
    modes: dict[str, int]
    dtypes: dict[str, int]
    duplicates: dict[str, Any]
    skipped: tuple[Skip, ...]
    left_alone: tuple[Skip, ...]
    captions: int
    notes: tuple[Choice, ...]
    fingerprint: str
    lengths: dict[str, int] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Split:
    """Items of one side: storage `x` (n …), and `labels`, `names` and `captions` ("" for none) of each; `words` are
    what the labels number. Items of one of `groups` are of one whole (a patient), where there are such. Where captions
    are a condition, `reading` makes its numbers of them."""

    modality: Modality[Any]
    x: Storage
    labels: dict[str, Int64[Tensor, "n ..."]]
    names: tuple[str, ...]
    captions: tuple[str, ...] = field(default=())
    words: Vocabulary = field(default_factory=dict)
    groups: tuple[bytes, ...] = field(default=())
    reading: Captions | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shelves(self) -> list[Int64[Tensor, " k"]]:
        """The items of each shape, where they are of several, of which a batch with seeds has one; mostly none."""
        return self.modality.shelves(self.x)

    def batch(
        self, index: Int64[Tensor, "b"], seeds: Seeds | None = None
    ) -> tuple[Float32[Tensor, "b ..."] | Int64[Tensor, "b ..."], dict[str, Int64[Tensor, "b ..."]]]:
        """States of the items at `index`, their label in each column and the tokens of their captions.

        With `seeds`, one per item, each state is one of the item's views (`Modality.to_state`): for training.
        """
        x, labels = self.x[index], {name: label[index] for name, label in self.labels.items()}
        if self.reading is not None and self.reading.thin and seeds is not None:
            labels[CAPTION] = self.reading.thinned([self.captions[i] for i in index.tolist()], seeds)
        return self.modality.to_state(x, seeds), self.modality.labels(labels, self.words, x, seeds)


@dataclass(frozen=True)
class Dataset:
    """Two splits in one modality; `columns` holds the vocabulary of each condition but for captions, which `captions`
    reads, where there are any."""

    modality: Modality[Any]
    train: Split
    val: Split
    columns: Vocabulary
    survey: Survey
    captions: Captions | None = None

    def resolve(self, column: str, value: str) -> int:
        """The number of a condition's value: its text as it stands in the data, or its name in classes.json.

        Raises `UserError` naming the nearest values where there is none, or the columns.
        """
        return resolve(self.columns, self.survey.class_names, column, value)


def resolve(columns: Mapping[str, Sequence[str]], names: Mapping[str, str], column: str, value: str) -> int:
    """See `Dataset.resolve`; `names` maps values of the class to their names."""
    if column not in columns:
        able = ", ".join(sorted(columns)) or "none: this data has no conditions"
        raise UserError(
            f"'{column}' is not a condition of this data (there is: {able}); choose one of these."
        )
    words = {value: index for index, value in enumerate(columns[column])}
    if value in words:
        return words[value]
    aliases = (
        {names[word]: index for word, index in words.items() if word in names} if column == CLASS else {}
    )
    folded = {word.casefold(): index for word, index in [*aliases.items(), *words.items()]}
    if value in aliases or value.casefold() in folded:
        return aliases.get(value, folded.get(value.casefold(), -1))
    choices = {word.casefold(): word for word in [*words, *aliases]}
    near = [choices[word] for word in difflib.get_close_matches(value.casefold(), list(choices), 5, 0.5)]
    listed = ", ".join(near or list(choices.values())[:10])
    hint = "did you mean" if near else "it can be"
    raise UserError(f"'{value}' is not a value of {column}; {hint}: {listed}{'?' if near else ''}")


def load(
    data: Path | str,
    *,
    modality: str = "auto",
    max_side: int = 64,
    size: int | tuple[int, int] | None = None,
    like: Modality[Any] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    grow: bool = False,
    captions: Captions | None = None,
    caption: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Dataset:
    """Reads a file or a folder (forms: the module docstrings of `folder`, `arrays` and `text_read`).

    `max_side` bounds the longer side of pictures and `size` fixes it (a number is a square, a pair height and
    width); `options` holds those of other modalities' `gather` by name ("text": length, tokeniser, vocabulary, column,
    document; "music": length, transpose; …), and none minds data of another kind.  `like` brings
    the data into the form of a model that is there already, and `columns` uses its vocabularies, with the data's
    own values after theirs to `grow`, and `captions` its reading of them.  `caption` says which columns are a caption
    ("column": see `caption_columns`) and how it is read (the arguments of `learn_captions`); without it, or without a
    reading where there is a model, captions are no condition.  Nothing is written.  Raises `UserError` for data that
    cannot be used: missing, empty, of several modalities, or with more than 10 % of its files unreadable.
    """
    folder = open_folder(data, (like.files_of or like.name) if like is not None else modality)
    kind = modality_class(folder.modality)
    folder = kind.spoken(folder)
    _check_failed(folder, folder.failed, data)
    asked = {"image": {"max_side": max_side, "size": size}} | dict(options or {})
    gathered = kind.gather(folder, like, **asked.get(folder.modality, {}))
    failed = [*folder.failed, *gathered.failed]
    _check_failed(folder, failed, data)

    n = len(gathered.names)
    known, told = _captioned(gathered, captions, caption, columns is None)
    if columns is None:
        works = range(n) if gathered.firsts is None else gathered.firsts
        described = {
            name: [*(values[i] for i in works), *gathered.reached.get(name, ())]
            for name, values in known.items()
        }
        vocabulary, column_choices = choose_columns(described, gathered.declared)
    else:
        vocabulary, column_choices = grown_columns(known if grow else {}, columns)
    numbers = number_columns(known, vocabulary, n)
    rows = (
        list(zip(*(numbers[name].tolist() for name in vocabulary), strict=True)) if vocabulary else [()] * n
    )
    unknown = [len(values) for values in vocabulary.values()]
    labels = [tuple(-1 if v == u else v for v, u in zip(row, unknown, strict=True)) for row in rows]
    plan = plan_split(
        gathered.hashes, labels, gathered.sides, gathered.names, gathered.groups, gathered.split_why
    )

    reading = captions
    if told.names and captions is None:
        how = {k: v for k, v in (caption or {}).items() if k != "column"}
        reading, more = learn_captions([told.texts[i] for i in plan.train], "+".join(told.names), **how)
        count = f"{len({t for t in told.texts if t}):,} different texts"
        column_choices += [("captions", reading.column, count), *more]
    if reading is not None:
        train = [told.texts[i] for i in plan.train]
        reading = reading.of(train, [rows[i] for i in plan.train], [told.texts[i] for i in plan.val])
        numbers |= {CAPTION: reading.rows(told.texts)}
    kept = torch.tensor(plan.train + plan.val, dtype=torch.int64)
    classes = {
        name: _counts(numbers[name][kept].tolist(), values)
        for name, values in vocabulary.items()
        if len(kept)
    }
    survey = Survey(
        source=str(data), modality=folder.modality, files=_file_count(folder, failed), items=n,
        train=len(plan.train), val=len(plan.val), classes=classes,
        class_names={v: folder.class_names[v] for v in vocabulary.get(CLASS, ()) if v in folder.class_names},
        sizes=gathered.histograms.get("sizes", {}), modes=gathered.histograms.get("modes", {}),
        dtypes=gathered.histograms.get("dtypes", {}), duplicates=plan.duplicates | gathered.duplicates,
        skipped=tuple(sorted(set(failed))), left_alone=(*folder.left_out, *gathered.left_out),
        captions=sum(bool(told.texts[i]) for i in plan.train + plan.val),
        notes=(*gathered.choices, *column_choices, *plan.choices),
        fingerprint=hashlib.sha256(b"".join(sorted(gathered.hashes))).hexdigest(),
        lengths=gathered.histograms.get("lengths", {}), totals=gathered.totals,
    )  # fmt: skip
    return Dataset(
        gathered.modality,
        _take(gathered, numbers, plan.train, vocabulary, told.texts, reading),
        _take(gathered, numbers, plan.val, vocabulary, told.texts, reading),
        vocabulary,
        survey,
        reading,
    )


@dataclass(frozen=True)
class _Told:
    """The columns that are the caption, and the caption of each item."""

    names: tuple[str, ...]
    texts: list[str]


def _captioned(
    gathered: Gathered, captions: Captions | None, asked: Mapping[str, Any] | None, new: bool
) -> tuple[dict[str, list[str | None]], _Told]:
    """The columns without those that are the caption."""
    columns = dict(gathered.columns)
    beside = [text or None for text in gathered.captions]
    if any(beside):
        columns[CAPTION] = beside
    wanted = str((asked or {}).get("column", "none"))
    if captions is not None:
        wanted = captions.column if all(k in columns for k in captions.column.split("+")) else "auto"
    elif not new:
        wanted = "none"
    works = range(len(gathered.names)) if gathered.firsts is None else gathered.firsts
    once = {name: [column[i] for i in works] for name, column in columns.items()}
    names = caption_columns(once, gathered.declared, wanted)
    texts = joined(columns, names, len(gathered.names)) if names else list(gathered.captions)
    kept = {name: column for name, column in columns.items() if name not in names}
    if wanted == "none" and new and any(beside):  # where there is a model, its own columns say what is one
        kept.pop(CAPTION)
    return kept, _Told(names, texts)


def _take(
    gathered: Gathered,
    numbers: dict[str, Tensor],
    items: list[int],
    vocabulary: Vocabulary,
    texts: Sequence[str],
    reading: Captions | None,
) -> Split:
    index = torch.tensor(items, dtype=torch.int64)
    return Split(
        gathered.modality,
        gathered.modality.confine(gathered.storage[index]),
        {name: number[index] for name, number in numbers.items()},
        tuple(gathered.names[i] for i in items),
        tuple(texts[i] for i in items),
        vocabulary,
        tuple(gathered.groups[i] for i in items) if gathered.groups else (),
        reading,
    )


def _counts(numbers: list[int], values: Sequence[str]) -> dict[str, int]:
    counts = Counter(numbers)
    return {value: counts[index] for index, value in enumerate(values)}


def _file_count(folder: Folder, failed: Sequence[Skip]) -> int:
    return len({entry.name for entry in folder.entries} | {name for name, _ in failed})


def _check_failed(folder: Folder, failed: Sequence[Skip], data: Path | str) -> None:
    bad, files = len({name for name, _ in failed}), _file_count(folder, failed)
    if bad > _MOST_FAILED * files:
        shown = "; ".join(f"{name}: {reason}" for name, reason in failed[:_REASONS_SHOWN])
        raise UserError(
            f"{bad} of the {files} files in {data} cannot be read, more than 10 % ({shown}); "
            "mend or remove them and try again."
        )
