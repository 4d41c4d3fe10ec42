"""Sounds: files on one side, log-mel states (b, c, f, t) on the other.

`audio_mel` says what a state is and what it loses; `audio_vocoder` makes sounds of states again.  A sound is encoded in
whole frames, and what is longer than a state is cut at its end (folders of long sounds are windowed, `audio_gather`).
A decoded sound has the length that its state says, so that the silence which states are filled up with is not written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities.audio_draw import sound_sheet
from kuosan.modalities.audio_file import Samples, Sound, converted, read_sound, sound_bytes, write_sound
from kuosan.modalities.audio_form import AudioForm
from kuosan.modalities.audio_gather import gather_sounds
from kuosan.modalities.audio_mel import PAST, frames_of, to_unit
from kuosan.modalities.audio_storage import Sounds
from kuosan.modalities.audio_stream import framed
from kuosan.modalities.audio_vocoder import Vocoder, sounded
from kuosan.modalities.base import Gathered, Modality, Read, Spec, Unreadable, register
from kuosan.modalities.folder import Folder
from kuosan.modalities.kinds import SUFFIXES

FILE = "vocoder.safetensors"
HERTZ = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(k?hz)?\s*-\s*(\d+(?:\.\d+)?)\s*(k?hz)\s*")
DECODED, AT_ONCE = 1 << 21, 1 << 19  # samples
NOTHING = -1e4  # a level, in dB, of a frame past the end of a sound


@register
class AudioModality(Modality[Sound]):
    """Sounds of up to `form.frames` frames, and the vocoder that was trained for them, if any."""

    name: ClassVar[str] = "audio"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES["audio"]
    axes: ClassVar[tuple[str, ...]] = ("frequency", "time")
    whole: ClassVar[tuple[str, ...]] = ("frequency",)
    noun: ClassVar[str] = "sounds"
    formats: ClassVar[tuple[str, ...]] = ("wav", "flac", "png")

    def __init__(self, form: AudioForm, vocoder: Vocoder | None = None) -> None:
        self.form = form
        self.vocoder = vocoder

    def __repr__(self) -> str:
        f = self.form
        return f"AudioModality({f.rate} Hz, {f.channels}×{f.bands}×{f.frames})"

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, f, t) of one state."""
        return self.form.channels, self.form.bands, self.form.frames

    @property
    def most_decoded(self) -> int:
        """As many as a small machine decodes in half a minute or so."""
        return max(16, min(256, DECODED // (self.form.channels * self.form.frames * self.form.hop)))

    def described_form(self) -> str:
        """In words."""
        kind = "stereo " if self.form.channels == 2 else ""
        return f"{kind}sounds of up to {self.form.seconds:.3g} s at {self.form.rate:,} Hz"

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """See `gather_sounds`, also for the options."""
        return gather_sounds(folder, cls, like if isinstance(like, AudioModality) else None, **options)

    def spec(self) -> Spec:
        size = {} if self.vocoder is None else {"width": self.vocoder.width, "depth": self.vocoder.depth}
        return {"modality": self.name, "form": self.form.to_json(), "vocoder": size or None}

    def resolved(self) -> dict[str, Any]:
        return {"rate": float(self.form.rate), "length": f"{self.form.frames}frames"}

    def files(self) -> dict[str, bytes]:
        """The vocoder's weights."""
        if self.vocoder is None:
            return {}
        state = {name: value.contiguous().cpu() for name, value in self.vocoder.state_dict().items()}
        return {FILE: safetensors.torch.save(state)}

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> AudioModality:
        form = AudioForm.from_json(spec["form"])
        if not spec.get("vocoder"):
            return cls(form)
        if read is None:
            raise UserError(
                f"A model of sounds needs its {FILE}, which stands beside its recipe; keep them together."
            )
        vocoder = new_vocoder(form, torch.Generator().manual_seed(0), **spec["vocoder"])
        try:
            vocoder.load_state_dict(safetensors.torch.load(read(FILE)))
        except (RuntimeError, safetensors.SafetensorError):
            raise UserError(
                f"{FILE} is damaged, or of another run; restore it from a copy of the run."
            ) from None
        return cls(form, vocoder.requires_grad_(False).eval())

    def with_vocoder(self, vocoder: Vocoder | None) -> AudioModality:
        """The same, which makes sounds with another vocoder, or with none."""
        return AudioModality(self.form, vocoder)

    def read(self, path: Path | str) -> Sound:
        """One sound, at its own rate.  Raises `Unreadable`."""
        try:
            return read_sound(Path(path))
        except Unreadable as error:
            raise Unreadable(error.reason, path) from None

    def write(self, raw: Sound, path: Path | str) -> Path:
        """16-bit WAV, or FLAC by its suffix, or a picture (PNG)."""
        path = Path(path)
        if path.suffix.lower() == ".png":
            self.show([raw], scale=3).save(path)
            return path
        return write_sound(raw, path)

    def fit(self, raw: Sound) -> Sound:
        """The sound at this form's rate, with its channels."""
        return converted(raw, self.form.rate, self.form.channels)

    def encode(self, raws: Sequence[Sound]) -> Float[Tensor, "b c f t"]:
        """States of sounds, which are brought to this form first."""
        x = torch.full((len(raws), self.form.frames, self.form.channels, self.form.bands), NOTHING)
        for rows, raw in zip(x, raws, strict=True):
            parts = [level for level, _ in framed([raw.samples], raw.rate, self.form)]
            level = torch.from_numpy(np.concatenate(parts))[: self.form.frames]
            rows[: len(level)] = level
        return self._state(x)

    def decode(self, x: Float[Tensor, "b c f t"]) -> list[Sound]:
        """Sounds of states of any length; what would be beyond full scale is brought down to it, whole."""
        if x.ndim != 4 or tuple(x.shape[1:3]) != self.shape[:2]:
            raise ValueError(
                f"expected states of shape (b, {self.shape[0]}, {self.shape[1]}, t), got {tuple(x.shape)}"
            )
        x = x.detach().to("cpu", torch.float32)
        lengths = torch.tensor(frames_of(x), dtype=torch.int64)
        found: dict[int, Samples] = {}
        for frames in lengths.unique().tolist():  # those of one length at once: many are as fast as a few
            most = max(1, AT_ONCE // (self.form.channels * frames * self.form.hop))
            for at in (lengths == frames).nonzero()[:, 0].split(most):
                waves = sounded(x[at, ..., :frames], self.form, self.vocoder)
                waves = waves / waves.abs().amax((1, 2), keepdim=True).clamp_min(1.0)
                found |= zip(at.tolist(), waves.transpose(1, 2).contiguous().numpy(), strict=True)
        return [Sound(found[i], self.form.rate) for i in range(len(x))]

    def to_state(self, storage: Sounds, seeds: Seeds | None = None) -> Float[Tensor, "b c f t"]:
        """Windows (b) as states; with seeds those of long sounds slide."""
        return self._state(storage.levels.windows(self.form.frames, NOTHING, seeds).float())

    def _state(self, level: Float[Tensor, "b t c f"]) -> Float[Tensor, "b c f t"]:
        x = to_unit(level, self.form).masked_fill(level <= NOTHING / 2, PAST)
        return x.permute(0, 2, 3, 1).contiguous()

    def confine(self, storage: Sounds) -> Sounds:
        """Windows that stay among these windows."""
        return storage.confined()

    def units(self, axis: str) -> Mapping[str, float]:
        rate = self.form.frame_rate
        return {"s": rate, "ms": rate / 1000, "frames": 1.0} if axis == "time" else {}

    def sized(self, sides: Sequence[int]) -> AudioModality:
        """The same form of another length."""
        bands, frames = sides
        if bands != self.form.bands:
            raise UserError(f"sounds have {self.form.bands} bands, not {bands}: give another length alone")
        return AudioModality(replace(self.form, frames=frames), self.vocoder)

    def places(self, axis: str, text: str) -> range:
        """As `Modality.places` has it; along frequency also in hertz ("0-1000hz"), which no unit is even in."""
        found = HERTZ.fullmatch(text.lower()) if axis == "frequency" else None
        if found is None:
            return super().places(axis, text)
        unit = found[4]
        low, high = (
            self.form.band_of(float(found[n]) * (1000 if (found[n + 1] or unit) == "khz" else 1))
            for n in (1, 3)
        )
        return super().places(axis, f"{low}-{high}")

    def clip(self, raw: Sound) -> tuple[str, bytes] | None:
        """Something that plays."""
        return "audio/wav", sound_bytes(raw)

    def show(
        self, raws: Sequence[Sound], columns: int | None = None, scale: int | None = None
    ) -> Image.Image:
        """Waveforms and spectra on one sheet."""
        return sound_sheet(raws, self.form, columns, scale)


def new_vocoder(form: AudioForm, generator: torch.Generator, *, width: int = 128, depth: int = 3) -> Vocoder:
    """An untrained vocoder for sounds of a form."""
    return Vocoder(form.bands, form.window // 2 + 1, width=width, depth=depth, generator=generator)
