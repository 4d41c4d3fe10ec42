"""Windows of music as measuring needs them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from kuosan.modalities.music_form import END, Form
from kuosan.modalities.music_score import Metre

FIRST_NOTE = END + 1


@dataclass(frozen=True, eq=False)
class Bars:
    """n windows of T steps of V voices.

    Args:
        pitch: what sounds, -1 for silence. onset: where a note begins. inside: steps before the end of the piece.
        bar: steps that are counted as a bar, of each window.
        part: of every voice, the number of the part that it belongs to.
        ranges: lowest and highest pitch of every voice in training.
    """

    pitch: Int64[Tensor, "n t v"]
    onset: Bool[Tensor, "n t v"]
    inside: Bool[Tensor, "n t"]
    bar: Int64[Tensor, " n"]
    part: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.pitch)

    def __getitem__(self, index: Tensor) -> Bars:
        return replace(
            self,
            pitch=self.pitch[index],
            onset=self.onset[index],
            inside=self.inside[index],
            bar=self.bar[index],
        )

    @classmethod
    def joined(cls, parts: list[Bars]) -> Bars:
        """Several sets as one; voices are those of the first."""
        return replace(
            parts[0],
            pitch=torch.cat([p.pitch for p in parts]),
            onset=torch.cat([p.onset for p in parts]),
            inside=torch.cat([p.inside for p in parts]),
            bar=torch.cat([p.bar for p in parts]),
        )

    @property
    def bars(self) -> Tensor:
        """How many bars each window has, (n,)."""
        return self.inside.sum(1).double() / self.bar

    def pairs(self) -> list[tuple[int, int]]:
        """Voices (upper, lower) whose leading is looked at: of different parts, or of the only one there is."""
        v = len(self.part)
        found = [(i, j) for i in range(v) for j in range(i + 1, v) if self.part[i] != self.part[j]]
        return found or [(i, j) for i in range(v) for j in range(i + 1, v)]


def bars_of(form: Form, x: Tensor, metres: list[Metre | None]) -> Bars:
    """Windows of tokens (n, T·V) as what is measured."""
    rows = x.view(len(x), x.shape[1] // form.lanes, form.lanes)
    sounds = (rows > END) & (rows < form.size)
    pitch = torch.where(sounds, form.low + (rows - FIRST_NOTE) // 2, -1)
    before = torch.cat([torch.full_like(pitch[:, :1], -1), pitch[:, :-1]], 1)
    onset = sounds & ((rows % 2 == 0) | (pitch != before))
    onset[:, 0] = sounds[:, 0] & (rows[:, 0] % 2 == 0)  # held at the beginning: it began before
    ends = (rows != END).any(2)
    inside = ends.flip(1).cummax(1).values.flip(1)
    bar = torch.tensor([form.bar(metre) for metre in metres], dtype=torch.int64)
    part = tuple(k for k, p in enumerate(form.parts) for _ in range(p.lanes))
    return Bars(pitch, onset, inside, bar, part, form.ranges)
