"""Music: scores on one side, tokens of voices on a grid (b, T·V) on the other (`music_form`, eq. 1).

A window has T steps of V lanes, step by step, and begins at a bar line (at a beat, where nothing says where bars are).
What a score has beyond notes, tempo, metre, key and instruments is not kept; `music_lanes` says what becomes of notes
that are between two steps or find no lane, and counts them. Music that does not fit becomes rolls (`music_roll`).

In training every window is also transposed, by up to `transpose` semitones and as far as no lane leaves the range that
it has in the data; a condition `key` moves along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.modalities.base import Gathered, Modality, Read, Spec, register
from kuosan.modalities.folder import Folder
from kuosan.modalities.music_form import END, Form
from kuosan.modalities.music_gather import gather_music
from kuosan.modalities.music_lanes import lines_of
from kuosan.modalities.music_passages import Passages
from kuosan.modalities.music_roll import RollModality
from kuosan.modalities.music_score import Metre, Score
from kuosan.modalities.music_scores import KEY, METRE, Scores

__all__ = ["KEY", "METRE", "MusicModality"]


@register
class MusicModality(Scores):
    """Windows of `steps` steps of scores in one `form`."""

    name: ClassVar[str] = "music"
    ending: ClassVar[float] = 20.0  # to try temperatures

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
        """See `gather_music`, also for the options; in voices or as rolls."""
        return gather_music(folder, {"voices": cls, "roll": RollModality}, like, **options)

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> MusicModality:
        return cls(Form.of_json(spec["form"]), int(spec["steps"]), int(spec["transpose"]))

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

    def _in_metre(self, raw: Score, metre: Metre | None) -> Score:
        return self._score(self.rows(raw), metre)

    def _score(self, rows: Tensor, metre: Metre | None) -> Score:
        return self._keyed(self.form.score(rows.numpy(), metre, tempo=self.form.tempo))

    def to_state(self, storage: Passages, seeds: Seeds | None = None) -> Int64[Tensor, "b l"]:
        """Passages (b) as states; with seeds they slide by bars and are transposed."""
        x = storage.windows.windows(self.steps, END, seeds).long()
        if seeds is not None:
            x = torch.where(x > END, x + 2 * storage.moves(seeds)[:, None, None], x)
        return x.flatten(1)

    def works(self, storage: Passages) -> list[Int64[Tensor, "s v"]]:
        """The pieces that passages are of, as tokens, as far as these cover them without a gap."""
        return [rows.long() for rows in storage.windows.joined()]
