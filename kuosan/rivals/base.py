"""What every rival is: a network that learns from batches and is then asked for samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.training.data import Items

Cond = Mapping[str, Int64[Tensor, "b"]]


class Rival(nn.Module, ABC):
    """A generative model of states.

    Attributes:
        name: of its kind, as the command line and the page have it.
        batch: examples of a step.
        rate: learning rate at its highest.
        betas: of its optimisers' moments.
        bounded: whether the loss of held-out items says how good it is, so that the best weights are kept by it.
    """

    name: ClassVar[str]
    batch: ClassVar[int]
    rate: ClassVar[float]
    betas: ClassVar[tuple[float, float]] = (0.9, 0.99)
    bounded: ClassVar[bool] = True

    def players(self) -> list[nn.Module]:
        """The parts that have an optimiser each, in the order of their turns; together they hold every parameter."""
        return [self]

    @abstractmethod
    def loss(self, turn: int, x: Tensor, cond: Cond, seeds: Seeds, progress: float) -> Tensor:
        """What the player of this turn wants to be small, of a batch, when so much of the budget (0 to 1) is used."""

    @torch.no_grad()
    def settle(self, items: Items, held_out: Items, seed: int) -> None:
        """What has to be found once training is over, on the averaged weights; mostly nothing."""
        return None

    @abstractmethod
    def sample(self, cond: Cond, seeds: Seeds) -> Tensor:
        """A state per seed, under these conditions."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""
        return self

    @property
    def sampler(self) -> nn.Module:
        """What is needed for samples; all of it unless said otherwise."""
        return self

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device
