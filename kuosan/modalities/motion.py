"""Motion: skeletal animation on one side, states (b, numbers of a frame, frames) on the other (`motion_form`).

A window has T frames of one skeleton at one rate. What a file has beyond the joints' rotations and the root's place
(stretching bones, where in the plane it begins and which way it heads) is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.modalities.base import Gathered, Modality, Read, Spec, Unreadable, register
from kuosan.modalities.folder import Folder
from kuosan.modalities.kinds import SUFFIXES
from kuosan.modalities.motion_draw import FILM_RATE, MOST_SECONDS, gif_bytes, motion_sheet
from kuosan.modalities.motion_feet import Feet
from kuosan.modalities.motion_files import WRITTEN, read_clips, write_motion
from kuosan.modalities.motion_form import Form
from kuosan.modalities.motion_gather import gather_motions
from kuosan.modalities.motion_project import Limits, foot_locked
from kuosan.modalities.motion_retarget import matched, retargeted
from kuosan.modalities.motion_skeleton import Motion, resampled
from kuosan.modalities.ragged import Ragged


@register
class MotionModality(Modality[Motion]):
    """Windows of `length` frames in one `form`.

    Args:
        limits: how far joints turn in the data.
        lock: whether feet that stand are held in what is decoded; None: in that of samples (`of_samples`).
        limit: whether joints are kept to their limits in what is decoded.
    """

    name: ClassVar[str] = "motion"
    suffixes: ClassVar[tuple[str, ...]] = (*SUFFIXES["motion"], ".json")
    noun: ClassVar[str] = "motions"
    axes: ClassVar[tuple[str, ...]] = ("time",)
    formats: ClassVar[tuple[str, ...]] = WRITTEN

    def __init__(
        self, form: Form, length: int, limits: Limits, *, lock: bool | None = None, limit: bool = False
    ) -> None:
        self.form, self.length, self.limits, self.lock, self.limit = form, length, limits, lock, limit

    def __repr__(self) -> str:
        f = self.form
        return f"MotionModality({len(f.skeleton)} joints, {self.length} frames at {f.rate:g} Hz)"

    @property
    def shape(self) -> tuple[int, int]:
        """(c, t) of one state."""
        return self.form.channels, self.length

    @property
    def rate(self) -> float:
        return self.form.rate

    def described_form(self) -> str:
        f = self.form
        return f"{self.length / f.rate:.3g}-second motions of {len(f.skeleton)} joints at {f.rate:g} frames per second"

    def corrected(self, *, foot_lock: bool | None = None, joint_limits: bool = False) -> MotionModality:
        """The same, whose decoded motions keep their standing feet in place (None: those of samples do), and their
        joints to the data's limits."""
        return MotionModality(self.form, self.length, self.limits, lock=foot_lock, limit=joint_limits)

    @property
    def of_samples(self) -> MotionModality:
        """With feet that stand held in place, unless that was decided."""
        return self if self.lock is not None else self.corrected(foot_lock=True, joint_limits=self.limit)

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """See `gather_motions`, also for the options."""
        return gather_motions(folder, cls, like if isinstance(like, MotionModality) else None, **options)

    def resolved(self) -> dict[str, Any]:
        return {"length": self.length, "rate": self.form.rate}

    def spec(self) -> Spec:
        return {
            "modality": self.name, "length": self.length, "form": self.form.to_json(), "limits": self.limits.to_json(),
        }  # fmt: skip

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> MotionModality:
        return cls(Form.from_json(spec["form"]), int(spec["length"]), Limits.from_json(spec["limits"]))

    def read(self, path: Path | str) -> Motion:
        """The motion of a file, the first where it holds several.  Raises `Unreadable`."""
        try:
            clips = read_clips(Path(path))
        except Unreadable as error:
            raise Unreadable(error.reason, path) from None
        if not clips:
            raise Unreadable("it holds a skeleton and no motion", path)
        return clips[0].motion

    def write(self, raw: Motion, path: Path | str) -> Path:
        """Writes BVH, or what the suffix says (`motion_files`)."""
        return write_motion(raw, Path(path))

    def fit(self, raw: Motion) -> Motion:
        """The motion on this skeleton and at this rate.  Raises `Unreadable` where its skeleton does not match."""
        match = matched(self.form.skeleton, raw.skeleton)
        if isinstance(match, str):
            raise Unreadable(match)
        return resampled(retargeted(raw, self.form.skeleton, match), self.form.rate)

    def held(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Frames (f, c), with the last pose held to the end of a window where they are fewer."""
        if len(rows) >= self.length:
            return rows
        still, groups = rows[-1:].copy(), self.form.groups
        at = [*groups["velocity"], *groups["heading"]]
        still[:, at] = -np.array(self.form.mean)[at] / np.array(self.form.scale)[at]
        return np.concatenate([rows[:-1], np.repeat(still, self.length - len(rows) + 1, 0)])

    def encode(self, raws: Sequence[Motion]) -> Float[Tensor, "b c t"]:
        """The first window of every motion, which is brought to this form; one that is too short holds its last
        pose."""
        x = np.empty((len(raws), self.length, self.form.channels), np.float32)
        for window, raw in zip(x, raws, strict=True):
            window[:] = self.held(self.form.rows(self.fit(raw).part(0, self.length)))
        return torch.from_numpy(x).transpose(1, 2).contiguous()

    def decode(self, x: Float[Tensor, "b c t"]) -> list[Motion]:
        """Motions of states of any number of frames."""
        if x.ndim != 3 or x.shape[1] != self.form.channels:
            raise ValueError(f"expected states of shape (b, {self.form.channels}, t), got {tuple(x.shape)}")
        found = []
        for rows in x.detach().to("cpu", torch.float64).transpose(1, 2).numpy():
            motion = self.form.motion(rows)
            motion = foot_locked(motion, self.form) if self.lock else motion
            found.append(self.limits.clamped(motion) if self.limit else motion)
        return found

    def to_state(self, storage: Ragged, seeds: Seeds | None = None) -> Float[Tensor, "b c t"]:
        """Parts of motions (b) as states; with seeds their windows slide."""
        return storage.windows(self.length, 0.0, seeds).transpose(1, 2).contiguous()

    def confine(self, storage: Ragged) -> Ragged:
        """Parts whose windows stay among these parts."""
        return storage.confined()

    @property
    def groups(self) -> Mapping[str, Sequence[int]]:
        """Which numbers of a frame are of what: the root's (and of these velocity, height, heading, posture), all
        joints', each joint's by its name, contacts."""
        groups, joints = self.form.groups, self.form.skeleton.names
        start = groups["posture"].start
        own = {name: range(start + 6 * j, start + 6 * j + 6) for j, name in enumerate(joints) if j}
        return {**own, "root": range(start + 6), **groups}

    @cached_property
    def feet(self) -> Feet | None:
        """See `Feet`."""
        return Feet(self.form) if self.form.feet and self.length > 1 else None

    @property
    def smooth(self) -> range:
        """The root's height and turning, and rotations; its velocity and contacts jump."""
        groups = self.form.groups
        return range(groups["height"].start, groups["joints"].stop)

    def units(self, axis: str) -> Mapping[str, float]:
        """Frames of a second, and of a frame."""
        return {"s": self.rate, "frames": 1.0}

    def sized(self, sides: Sequence[int]) -> MotionModality:
        """The same form of so many frames."""
        return MotionModality(self.form, sides[0], self.limits, lock=self.lock, limit=self.limit)

    def clip(self, raw: Motion) -> tuple[str, bytes]:
        """A small film that plays by itself."""
        return "image/gif", gif_bytes(raw, 160, MOST_SECONDS, FILM_RATE)

    def show(
        self, raws: Sequence[Motion], columns: int | None = None, scale: int | None = None
    ) -> Image.Image:
        """Some poses of each, on one sheet."""
        return motion_sheet(raws, columns, scale)
