"""Optimisers: AdamW, and Muon for the matrices inside a network's blocks.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest one whose singular values are all about 1, so
that rare directions learn as fast as common ones; with the update's size matched to AdamW's (Liu et al. 2025) it takes
the same learning rate. Embeddings, biases and vectors are none of its business and stay with AdamW.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

Kind = Literal["adamw", "muon"]
MOMENTUM = 0.95


class Optimizers:
    """One or two optimisers that take their steps together.

    Args:
        kind: of the matrices inside blocks.
        lr, betas, weight_decay: of AdamW; Muon shares the rate and the decay.
    """

    def __init__(
        self, model: nn.Module, kind: Kind, *, lr: float, betas: tuple[float, float], weight_decay: float
    ):
        trained = [p for p in model.parameters() if p.requires_grad]
        chosen = {id(p) for p in matrices(model)} if kind == "muon" else set()
        mine = [p for p in trained if id(p) in chosen]
        rest = [p for p in trained if id(p) not in chosen]
        fused = all(p.dtype in (torch.float32, torch.float64) for p in rest)
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused)
        ]
        if mine:
            self.parts.append(
                torch.optim.Muon(
                    mine, lr=lr, weight_decay=weight_decay, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw"
                )
            )

    def step(self, rate: float) -> None:
        """One step of each at this learning rate."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def states(self) -> Iterator[tuple[str, torch.optim.Optimizer, Tensor]]:
        """A name, the optimiser and the parameter of everything that has a state."""
        for k, part in enumerate(self.parts):
            prefix = "optimizer" if k == 0 else "muon"
            parameters: list[Any] = [p for group in part.param_groups for p in group["params"]]
            for i, p in enumerate(parameters):
                yield f"{prefix}.{i}.", part, p


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trained matrices inside a network's ``blocks``."""
    inside = ((name, p) for name, p in model.named_parameters() if ".blocks." in f".{name}")
    return [p for _, p in inside if p.ndim == 2 and p.requires_grad]
