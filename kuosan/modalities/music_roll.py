"""Music as rolls: scores on one side, states (b, 2·parts, pitches, steps) on the other (`music_roll_form`).

For music of so many notes at once that voices do not hold it: any number of them sounds, and states are numbers, of
which any part can be given. Windows, keys and transpositions are those of voices (`music`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities.base import Gathered, Modality, Read, Spec, modality_class, register
from kuosan.modalities.folder import Folder
from kuosan.modalities.music_form import Form
from kuosan.modalities.music_lanes import lines_of
from kuosan.modalities.music_passages import Passages
from kuosan.modalities.music_roll_form import BEGINS, SILENCE, read_roll, rolled, unrolled
from kuosan.modalities.music_score import Metre, Score
from kuosan.modalities.music_scores import Scores
from kuosan.modalities.music_sound import RATE, render, wave_bytes

HEARD = 12.0  # seconds of a sound in a page


@register
class RollModality(Scores):
    """Windows of `steps` steps of scores as rolls: `form` says which parts and pitches there are."""

    name: ClassVar[str] = "roll"
    files_of: ClassVar[str] = "music"
    axes: ClassVar[tuple[str, ...]] = ("pitch", "time")
    whole: ClassVar[tuple[str, ...]] = ("pitch",)

    @property
    def level(self) -> float:
        return 2.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, p, t) of one state."""
        return 2 * len(self.form.parts), self.form.high - self.form.low + 1, self.steps

    def described_form(self) -> str:
        return f"passages of {self.shape[1]} pitches and {self.steps} steps, {self.form.step} of a quarter"

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """As music is read, in the form of rolls."""
        return modality_class(cls.files_of).gather(folder, like, **{"form": "roll", **options})

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> RollModality:
        return cls(Form.of_json(spec["form"]), int(spec["steps"]), int(spec["transpose"]))

    def resolved(self) -> dict[str, Any]:
        return {"modality": "music", "form": "roll", "length": self.steps, "transpose": self.transpose}

    def units(self, axis: str) -> Mapping[str, float]:
        """Steps of a bar in the usual metre, and of a quarter."""
        if axis != "time":
            return {}
        return {"bars": float(self.form.bar(self.form.metre)), "quarters": float(self.form.step)}

    @property
    def groups(self) -> Mapping[str, Sequence[int]]:
        """Parts, by name."""
        return {name: range(2 * k, 2 * k + 2) for k, name in enumerate(self.form.part_names)}

    def sized(self, sides: Sequence[int]) -> RollModality:
        """The same form, of so many steps.

        Raises:
            UserError: other pitches.
        """
        if sides[0] != self.shape[1]:
            raise UserError(f"rolls have {self.shape[1]} pitches: give another length alone")
        return RollModality(self.form, sides[1], self.transpose)

    def roll(self, raw: Score) -> UInt8[Tensor, "s n p"]:
        """A whole score, however long; only its first metre counts."""
        found, _ = rolled(self.form, lines_of(raw), raw.metre, raw.pickup, raw.length)
        return torch.from_numpy(found)

    def encode(self, raws: Sequence[Score]) -> Float[Tensor, "b c p t"]:
        """The first window of every score."""
        _, pitches, steps = self.shape
        x = torch.zeros(len(raws), steps, len(self.form.parts), pitches, dtype=torch.uint8)
        for window, raw in zip(x, raws, strict=True):
            found = self.roll(raw)[:steps]
            window[: len(found)] = found
        return _states(x)

    def decode(self, x: Float[Tensor, "b c p t"]) -> list[Score]:
        """Scores of states of any length, in the data's usual metre and tempo, and in the key that they are in."""
        if x.ndim != 4 or tuple(x.shape[1:3]) != self.shape[:2]:
            c, p, _ = self.shape
            raise ValueError(f"expected states of shape (b, {c}, {p}, t), got {tuple(x.shape)}")
        on = (x.detach().cpu() > 0).permute(0, 3, 1, 2).numpy()  # b t c p
        return [self._score(row, self.form.metre) for row in read_roll(on[:, :, ::2], on[:, :, 1::2])]

    def _in_metre(self, raw: Score, metre: Metre | None) -> Score:
        return self._score(self.roll(raw).numpy(), metre)

    def _score(self, row: np.ndarray[Any, Any], metre: Metre | None) -> Score:
        return self._keyed(unrolled(self.form, row, metre, tempo=self.form.tempo))

    def to_state(self, storage: Passages, seeds: Seeds | None = None) -> Float[Tensor, "b c p t"]:
        """Passages (b) as states; with seeds they slide by bars and are transposed."""
        x = storage.windows.windows(self.steps, SILENCE, seeds)
        if seeds is not None:
            place = (torch.arange(x.shape[3]) - storage.moves(seeds)[:, None]) % x.shape[3]
            x = x.gather(3, place[:, None, None].expand(x.shape))
        return _states(x)

    def clip(self, raw: Score) -> tuple[str, bytes]:
        """The first seconds, by the synthesiser."""
        return "audio/wav", wave_bytes(render(raw, RATE, HEARD))


def _states(x: UInt8[Tensor, "b t n p"]) -> Float[Tensor, "b c p t"]:
    """What is stored as -1 and 1: of every part onset and sustain."""
    both = torch.stack([x == BEGINS, x != SILENCE], 3).flatten(2, 3)
    return both.permute(0, 2, 3, 1).float().mul_(2).sub_(1)
