"""What the recipe of a modality decides, and what it decides from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kuosan.codecs import Codec
from kuosan.modalities import Dataset
from kuosan.recipes.schema import Recipe
from kuosan.recipes.start import Start
from kuosan.training.budget import Budget

Choice = tuple[str, Any, str]


@dataclass(frozen=True)
class Question:
    """A person's data and wishes.

    Args:
        start: what training starts from.
        speed: of this machine now, relative to what network choices predict.
        modality: of the start, or else of the data.
    """

    source: Path
    recipe: Recipe
    start: Start | None
    budget: Budget
    device: torch.device
    speed: float
    modality: str

    @property
    def seconds(self) -> float:
        """Training time that the budget is worth."""
        return 0.9 * self.budget.seconds if self.budget.seconds else 600.0


@dataclass(frozen=True)
class Settled:
    """The data, every leaf, the network's specification, the reasons, and the codec where there is one."""

    data: Dataset
    recipe: Recipe
    network: dict[str, Any]
    choices: list[Choice] = field(default_factory=list)
    codec: Codec | None = None
