"""The tensors of a training in progress, for a checkpoint: model, average, and the optimiser's moments."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def pack(model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All of it, by names that `unpack` knows."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for i, p in enumerate(_parameters(optimizer)):
        tensors |= {f"optimizer.{i}.{k}": v for k, v in optimizer.state.get(p, {}).items()}
    return tensors


def unpack(
    tensors: Mapping[str, Tensor], model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """The state that `pack` saw, in place."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    model.load_state_dict(part("model."))
    average.load_state_dict(part("average."))
    optimizer.state.clear()
    for i, p in enumerate(_parameters(optimizer)):
        if state := part(f"optimizer.{i}."):
            # AdamW keeps its count of steps on the CPU unless it is fused there
            optimizer.state[p] = {k: v.to(p.device) for k, v in state.items()}


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
