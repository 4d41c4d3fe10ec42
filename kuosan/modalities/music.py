"""Music: scores on one side, tokens of voices on a grid (b, T·V) on the other (`music_form`, eq. 1).

A window has T steps of V lanes, step by step, and begins at a bar line (at a beat, where nothing says where bars are).
What a score has beyond notes, tempo, metre, key and instruments is not kept; `music_lanes` says what becomes of notes
that are between two steps or find no lane, and counts them.

In training every window is also transposed, by up to `transpose` semitones and as far as no lane leaves the range that
it has in the data; a condition `key` moves along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.modalities.base import Gathered, Modality, Read, Spec, Unreadable, register
from kuosan.modalities.folder import Folder
from kuosan.modalities.kinds import SUFFIXES
from kuosan.modalities.music_draw import music_sheet
from kuosan.modalities.music_files import WRITTEN, read_scores, write_score
from kuosan.modalities.music_form import END, Form
from kuosan.modalities.music_gather import gather_music
from kuosan.modalities.music_key import find_key, transposed_key
from kuosan.modalities.music_lanes import lines_of
from kuosan.modalities.music_passages import Passages
from kuosan.modalities.music_score import Metre, Score, metre_name, parse_metre

KEY, METRE = "key", "metre"


@register
class MusicModality(Modality[Score]):
    """Windows of `steps` steps of scores in one `form`."""

    name: ClassVar[str] = "music"
    suffixes: ClassVar[tuple[str, ...]] = (*SUFFIXES["music"], ".json")
    formats: ClassVar[tuple[str, ...]] = WRITTEN
    noun: ClassVar[str] = "passages"

    def __init__(self, form: Form, steps: int, transpose: int = 0) -> None:
        self.form, self.steps, self.transpose = form, steps, transpose

    def __repr__(self) -> str:
        return f"MusicModality({self.form!r}, {self.steps}, {self.transpose})"

    @property
    def tokeniser(self) -> Form:
        """What numbers tokens."""
        return self.form

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return self.steps * self.form.lanes

    @property
    def shape(self) -> tuple[int]:
        return (self.length,)

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """See `gather_music`, also for the options."""
        return gather_music(folder, cls, like if isinstance(like, MusicModality) else None, **options)

    def spec(self) -> Spec:
        return {
            "modality": self.name, "steps": self.steps, "transpose": self.transpose, "form": self.form.to_json(),
        }  # fmt: skip

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> MusicModality:
        return cls(Form.of_json(spec["form"]), int(spec["steps"]), int(spec["transpose"]))

    def read(self, path: Path | str) -> Score:
        """The score of a file, the first where it holds several.  Raises `Unreadable`."""
        try:
            return read_scores(Path(path))[0].score
        except Unreadable as error:
            raise Unreadable(error.reason, path) from None

    def write(self, raw: Score, path: Path | str) -> Path:
        """Writes MIDI, or what the suffix says (`music_files`)."""
        return write_score(raw, Path(path))

    def rows(self, raw: Score) -> Int64[Tensor, "s v"]:
        """Tokens of a whole score, however long; only its first metre counts."""
        tokens, _ = self.form.rows(lines_of(raw), raw.metre, raw.pickup, raw.length)
        return torch.from_numpy(tokens)

    def encode(self, raws: Sequence[Score]) -> Int64[Tensor, "b l"]:
        """The first window of every score."""
        x = torch.full((len(raws), self.steps, self.form.lanes), END, dtype=torch.int64)
        for window, raw in zip(x, raws, strict=True):
            rows = self.rows(raw)[: self.steps]
            window[: len(rows)] = rows
        return x.flatten(1)

    def decode(self, x: Int64[Tensor, "b l"]) -> list[Score]:
        """Scores of states of any length, in the data's usual metre and tempo, and in the key that they are in."""
        return [
            self._score(row, self.form.metre)
            for row in x.view(len(x), x.shape[1] // self.form.lanes, self.form.lanes)
        ]

    def _score(self, rows: Tensor, metre: Metre | None) -> Score:
        score = self.form.score(rows.numpy(), metre, tempo=self.form.tempo)
        return replace(score, key=find_key(score))

    def described(self, raws: Sequence[Score], columns: Mapping[str, Sequence[str | None]]) -> list[Score]:
        """Scores in the metre that was asked for."""
        asked = columns.get(METRE, [None] * len(raws))
        return [
            raw
            if name is None or name == metre_name(raw.metre)
            else self._score(self.rows(raw), parse_metre(name))
            for raw, name in zip(raws, asked, strict=True)
        ]

    def to_state(self, storage: Passages, seeds: Seeds | None = None) -> Int64[Tensor, "b l"]:
        """Passages (b) as states; with seeds they slide by bars and are transposed."""
        x = storage.windows.windows(self.steps, END, seeds).long()
        if seeds is not None:
            x = torch.where(x > END, x + 2 * storage.moves(seeds)[:, None, None], x)
        return x.flatten(1)

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

    def works(self, storage: Passages) -> list[Int64[Tensor, "s v"]]:
        """The pieces that passages are of, as tokens, as far as these cover them without a gap."""
        return [rows.long() for rows in storage.windows.joined()]

    def show(
        self, raws: Sequence[Score], columns: int | None = None, scale: int | None = None
    ) -> Image.Image:
        """Piano rolls of all of them on one sheet."""
        return music_sheet(raws, columns, scale)
