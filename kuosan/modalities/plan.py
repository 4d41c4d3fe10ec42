"""Floor plans: rooms, walls and doors on one side, tokens on a grid of walls (b, L) on the other (`plan_form`, eq. 1).

Whatever the tokens are, what is written of them is a plan: its outline is closed, its rooms do not overlap, its walls
are parallel to the axes, and every room is reached through doors (`plan_tidy`). In training plans are also seen
mirrored and turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.modalities.base import Gathered, Modality, Read, Spec, Unreadable, register
from kuosan.modalities.folder import Folder
from kuosan.modalities.kinds import SUFFIXES
from kuosan.modalities.plan_draw import plan_sheet
from kuosan.modalities.plan_files import WRITTEN, read_plan, write_plan
from kuosan.modalities.plan_form import Form, NoPlace
from kuosan.modalities.plan_gather import gather_plans
from kuosan.modalities.plan_raw import Plan

VIEWS = {"none": (0,), "x": (0, 1), "y": (0, 2), "xy": (0, 1, 2, 3), "auto": tuple(range(8))}


@register
class PlanModality(Modality[Plan]):
    """Plans in one `form`; `mirror` says which views training sees: mirrored left to right (x), upside down (y), both
    (xy), and turned as well (auto)."""

    name: ClassVar[str] = "plan"
    suffixes: ClassVar[tuple[str, ...]] = (*SUFFIXES["plan"], ".jsonl", ".json")
    formats: ClassVar[tuple[str, ...]] = WRITTEN
    noun: ClassVar[str] = "plans"

    def __init__(self, form: Form, mirror: str = "auto") -> None:
        self.form, self.mirror = form, mirror

    def __repr__(self) -> str:
        return f"PlanModality({self.form!r}, {self.mirror!r})"

    @property
    def tokeniser(self) -> Form:
        """What numbers tokens."""
        return self.form

    @property
    def length(self) -> int:
        """Tokens of a state."""
        return self.form.length

    @property
    def shape(self) -> tuple[int]:
        return (self.form.length,)

    def described_form(self) -> str:
        grid = f"plans on a grid of up to {self.form.rows}×{self.form.columns} cells"
        return grid if self.form.step is None else f"{grid}, in steps of {self.form.step:g} m"

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """See `gather_plans`, also for the options."""
        return gather_plans(folder, cls, like if isinstance(like, PlanModality) else None, **options)

    def spec(self) -> Spec:
        return {"modality": self.name, "mirror": self.mirror, "form": self.form.to_json()}

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> PlanModality:
        return cls(Form.of_json(spec["form"]), str(spec["mirror"]))

    def read(self, path: Path | str) -> Plan:
        """The plan of a file, the first where it holds several.  Raises `Unreadable`."""
        return read_plan(Path(path))

    def write(self, raw: Plan, path: Path | str) -> Path:
        """Writes SVG, or what the suffix says (`plan_files`)."""
        return write_plan(raw, Path(path))

    def encode(self, raws: Sequence[Plan]) -> Int64[Tensor, "b l"]:
        """States of plans.  Raises `Unreadable` for one that the form cannot say."""
        states = []
        for raw in raws:
            try:
                states.append(self.form.tokens(self.form.read(raw)))
            except NoPlace as error:
                raise Unreadable(str(error)) from None
        return (
            torch.from_numpy(np.stack(states)) if states else torch.zeros(0, self.length, dtype=torch.int64)
        )

    def decode(self, x: Int64[Tensor, "b l"]) -> list[Plan]:
        return [self.form.plan(self.form.layout(row)) for row in x.numpy()]

    def to_state(self, storage: Tensor, seeds: Seeds | None = None) -> Int64[Tensor, "b l"]:
        x = storage.long()
        views = VIEWS[self.mirror]
        if seeds is None or len(views) == 1:
            return x
        which = (seeds.fold("view").uniforms() * len(views)).long().tolist()
        rows = [
            row if not views[k] else self.form.turned(row, views[k])
            for row, k in zip(x.numpy(), which, strict=True)
        ]
        return torch.from_numpy(np.stack(rows))

    def show(self, raws: Sequence[Plan], columns: int | None = None, scale: int | None = None) -> Image.Image:
        """Drawn with coloured rooms on one sheet, named where there is room."""
        return plan_sheet(raws, columns, scale)
