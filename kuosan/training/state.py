"""The tensors of a training in progress, for a checkpoint: model, average, and the optimiser's moments."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kuosan.training.optimizer import Optimizers


def pack(model: nn.Module, average: nn.Module, optimizers: Optimizers) -> dict[str, Tensor]:
    """All of it, by names that `unpack` knows."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for prefix, part, p in optimizers.states():
        tensors |= {f"{prefix}{k}": v for k, v in part.state.get(p, {}).items()}
    return tensors


def shaped_like(
    tensors: Mapping[str, Tensor], optimizers: Optimizers, forms: Mapping[str, tuple[torch.Size, torch.dtype]]
) -> dict[str, Tensor]:
    """Something to read a checkpoint of these ``forms`` into: what the process holds of `pack`'s ``tensors``, and as
    much of each parameter's moments, which there are none of before the first step."""
    parameters = {prefix: p for prefix, _, p in optimizers.states()}
    out = {}
    for name, (shape, dtype) in forms.items():
        p = parameters.get(f"{name.rpartition('.')[0]}.")
        if name in tensors:
            out[name] = tensors[name]
        elif p is not None and p.shape == shape:
            out[name] = torch.zeros_like(p, dtype=dtype, requires_grad=False)
        else:
            out[name] = torch.empty(shape, dtype=dtype)
    return out


def unpack(
    tensors: Mapping[str, Tensor], model: nn.Module, average: nn.Module, optimizers: Optimizers
) -> None:
    """The state that `pack` saw, in place."""

    def part_of(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    model.load_state_dict(part_of("model."))
    average.load_state_dict(part_of("average."))
    for part in optimizers.parts:
        part.state.clear()
    for prefix, part, p in optimizers.states():
        if state := part_of(prefix):
            # In the layout of its parameter: a fused optimiser walks both as they lie in memory.
            part.state[p] = {
                k: torch.empty_like(p, dtype=v.dtype).copy_(v) if v.shape == p.shape else v.to(p.device)
                for k, v in state.items()
            }
