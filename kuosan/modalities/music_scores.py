"""What scores have in common, whatever states they become: files, keys, metres, sheets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.modalities.base import Modality, Spec, Unreadable
from kuosan.modalities.kinds import SUFFIXES
from kuosan.modalities.music_draw import music_sheet
from kuosan.modalities.music_files import WRITTEN, read_scores, write_score
from kuosan.modalities.music_form import Form
from kuosan.modalities.music_key import find_key, transposed_key
from kuosan.modalities.music_passages import Passages
from kuosan.modalities.music_score import Metre, Score, metre_name, parse_metre

KEY, METRE = "key", "metre"


class Scores(Modality[Score]):
    """Windows of `steps` steps of scores in one `form`."""

    suffixes: ClassVar[tuple[str, ...]] = (*SUFFIXES["music"], ".json")
    formats: ClassVar[tuple[str, ...]] = WRITTEN
    noun: ClassVar[str] = "passages"

    def __init__(self, form: Form, steps: int, transpose: int = 0) -> None:
        self.form, self.steps, self.transpose = form, steps, transpose

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.form!r}, {self.steps}, {self.transpose})"

    def spec(self) -> Spec:
        return {
            "modality": self.name, "steps": self.steps, "transpose": self.transpose, "form": self.form.to_json(),
        }  # fmt: skip

    def read(self, path: Path | str) -> Score:
        """The score of a file, the first where it holds several.  Raises `Unreadable`."""
        try:
            return read_scores(Path(path))[0].score
        except Unreadable as error:
            raise Unreadable(error.reason, path) from None

    def write(self, raw: Score, path: Path | str) -> Path:
        """Writes MIDI, or what the suffix says (`music_files`)."""
        return write_score(raw, Path(path))

    @abstractmethod
    def _in_metre(self, raw: Score, metre: Metre | None) -> Score:
        """The same steps in bars of another metre."""

    @staticmethod
    def _keyed(score: Score) -> Score:
        """With the key that it is in."""
        return replace(score, key=find_key(score))

    def described(self, raws: Sequence[Score], columns: Mapping[str, Sequence[str | None]]) -> list[Score]:
        """Scores in the metre that was asked for."""
        asked = columns.get(METRE, [None] * len(raws))
        return [
            raw if name is None or name == metre_name(raw.metre) else self._in_metre(raw, parse_metre(name))
            for raw, name in zip(raws, asked, strict=True)
        ]

    def labels(
        self,
        labels: Mapping[str, Tensor],
        words: Mapping[str, Sequence[str]],
        storage: Passages,
        seeds: Seeds | None,
    ) -> dict[str, Tensor]:
        """The key moves with the notes."""
        found = dict(labels)
        if seeds is None or KEY not in found:
            return found
        keys = [*words[KEY]]
        place = {key: i for i, key in enumerate(keys)}
        moved = [
            place.get(transposed_key(keys[i], n), len(keys)) if i < len(keys) else i
            for i, n in zip(found[KEY].tolist(), storage.moves(seeds).tolist(), strict=True)
        ]
        return found | {KEY: torch.tensor(moved, dtype=torch.int64)}

    def confine(self, storage: Passages) -> Passages:
        """Passages whose windows stay among these passages."""
        return replace(storage, windows=storage.windows.confined())

    def show(
        self, raws: Sequence[Score], columns: int | None = None, scale: int | None = None
    ) -> Image.Image:
        """Piano rolls of all of them on one sheet."""
        return music_sheet(raws, columns, scale)
