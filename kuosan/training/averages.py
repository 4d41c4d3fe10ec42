"""The averages that a training keeps: one of a given length, or several that any other can be made of.

`Averages` holds what is averaged as training goes on. Where the length is to be chosen afterwards, it tracks two
lengths, `TRACKED`, and leaves them in files now and then, `Kept`: at most `MOST` for a run, evenly spread however
long it is (`posthoc.thinned`), each named after its step and its contents. A checkpoint lists the names, so that a run
that goes on, or back, only knows what its own past has left; files that the last checkpoint does not list are removed
when the next one is committed.

Kept averages are in half precision (a relative rounding of 2⁻¹¹, where bfloat16 has 2⁻⁸); what is made of them is off
by 3·10⁻⁵ to 8·10⁻⁴ of a weight's size for lengths from 0.25 down to 0.02. Those of the checkpoint itself are in full.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.training import checkpoint, ema
from kuosan.training.posthoc import Profile, coefficients, thinned
from kuosan.training.sharding import whole

TRACKED = (0.10, 0.05)  # the first is the one that training looks at
MOST = 16
LOOKS = 32  # times in a run at which averages are kept, before they are thinned
FOLDER = "averages"
_HALF = 6e4  # the largest that half precision holds


class Averages:
    """Averages of a model's weights, updated step by step.

    Args:
        model: what is averaged; copied.
        std: the length of the one average, or None to track several for later.
    """

    def __init__(self, model: Denoiser, std: float | None):
        self.stds = TRACKED if std is None else (std,)
        self._trained = frozenset(name for name, p in model.named_parameters() if p.requires_grad)
        self.several = std is None
        self.models = tuple(copy.deepcopy(model).requires_grad_(False).eval() for _ in self.stds)
        self._gammas = [ema.gamma_of(one) for one in self.stds]

    def update(self, model: Denoiser, step: int) -> None:
        """Eq. 1 of `ema` on each."""
        for average, gamma in zip(self.models, self._gammas, strict=True):
            ema.update(average, model, step, gamma)

    def state(self) -> dict[str, Tensor]:
        """All but the first, which a checkpoint has as ``average.``."""
        return {
            f"{_name(std)}{k}": v
            for std, model in list(zip(self.stds, self.models, strict=True))[1:]
            for k, v in model.state_dict().items()
        }

    def halves(self) -> dict[str, Tensor]:
        """What is trained of all of them, in half precision, whole, on the CPU."""
        return {
            f"{std:g}/{k}": _half(whole(v))
            for std, model in zip(self.stds, self.models, strict=True)
            for k, v in model.state_dict().items()
            if k in self._trained
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """What `state` gave, from a checkpoint's tensors."""
        for std, model in list(zip(self.stds, self.models, strict=True))[1:]:
            model.load_state_dict(_part(tensors, _name(std)))


def profiles(
    tensors: Mapping[str, Tensor], stds: Sequence[float], step: int
) -> dict[Profile, dict[str, Tensor]]:
    """The averages in the tensors of a checkpoint of this step."""
    parts = ["average.", *(_name(std) for std in stds[1:])]
    return {Profile(std, step): _part(tensors, part) for std, part in zip(stds, parts, strict=True)}


def _name(std: float) -> str:
    return f"average-{std:g}."


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class Kept:
    """The averages that a run has left in its folder."""

    folder: Path

    def keep(self, halves: Mapping[str, Tensor], step: int, names: Sequence[str]) -> list[str]:
        """Write the averages of this step (`Averages.halves`); the names of those that the run keeps from now on.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        data = safetensors.torch.save(dict(halves))
        name = f"{step:09d}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
        if not (self.folder / name).is_file():
            checkpoint.write_bytes(self.folder / name, data)
        by_step = {step_of(n): n for n in (*names, name)}
        return [by_step[s] for s in thinned(sorted(by_step), MOST)]

    def forget(self, names: Sequence[str]) -> None:
        """Remove all others: they were thinned out, or belong to a past that was lost."""
        for path in [p for p in self.folder.glob("*.safetensors") if p.name not in names]:
            path.unlink(missing_ok=True)

    def read(self, name: str) -> dict[Profile, dict[str, Tensor]]:
        """The averages in a file, by their profiles.

        Raises:
            UserError: it is gone or damaged.
        """
        path = self.folder / name
        try:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest()[:16] != Path(name).stem.partition("-")[2]:
                raise ValueError("its contents are not those that its name stands for")
            tensors = safetensors.torch.load(data)
        except (OSError, ValueError, safetensors.SafetensorError) as e:
            raise UserError(
                f"the averages {path} cannot be read ({e}): restore the file from a copy, or remove it, and averages "
                "of other lengths are made of those that are left"
            ) from e
        stds = sorted({float(k.partition("/")[0]) for k in tensors})
        return {Profile(std, step_of(name)): _part(tensors, f"{std:g}/") for std in stds}


def step_of(name: str) -> int:
    """The step of a kept file."""
    return int(name.partition("-")[0])


@dataclass(frozen=True)
class Basis:
    """What averages of any length are made of: a checkpoint's ``own``, in full precision, of its ``step``, and those
    that its past has kept in files, which are read one by one as they are needed."""

    kept: Kept
    names: tuple[str, ...]
    step: int
    own: Mapping[Profile, Mapping[str, Tensor]]

    @classmethod
    def of(cls, kept: Kept, place: Path, stds: Sequence[float]) -> Basis:
        """That of the checkpoint ``place``.

        Raises:
            UserError: it is damaged.
        """
        tensors, state = checkpoint.load(place)
        step = int(state["counters"]["step"])
        names = state["counters"].get("kept", ())  # none, before there was a choice
        listed = [n for n in names if step_of(n) < step and (kept.folder / n).is_file()]
        return cls(kept, tuple(listed), step, profiles(tensors, stds, step))

    def combined(self, std: float) -> dict[str, Tensor]:
        """The average of this length at `step`; what is not trained is the checkpoint's.

        Raises:
            UserError: a file is damaged.
        """
        lengths = [p.std for p in self.own]
        profiles = [*self.own, *(Profile(one, step_of(n)) for n in self.names for one in lengths)]
        weights = dict(zip(profiles, coefficients(profiles, Profile(std, self.step)).tolist(), strict=True))
        last = next(iter(self.own.values()))
        trained = next(iter(self.kept.read(self.names[0]).values())) if self.names else last
        total = {
            k: torch.zeros_like(v, dtype=torch.float64)
            for k, v in last.items()
            if k in trained and v.is_floating_point()
        }

        def add(parts: Mapping[Profile, Mapping[str, Tensor]]) -> None:
            for profile, tensors in parts.items():
                for k, v in total.items():
                    v.add_(tensors[k].to(v), alpha=weights[profile])

        add(self.own)
        for name in self.names:
            if any(weights[p] for p in weights if p.step == step_of(name)):
                add(self.kept.read(name))
        return {k: total[k].to(v.dtype) if k in total else v for k, v in last.items()}


def _half(v: Tensor) -> Tensor:
    v = v.detach().cpu()
    small = v.is_floating_point() and (not v.numel() or float(v.abs().max()) < _HALF)
    return (v.half() if small else v).contiguous()
