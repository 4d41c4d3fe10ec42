"""Models that one GPU cannot hold: weights, gradients, averages and moments in equal parts on all of them.

FSDP2 (`torch.distributed.fsdp.fully_shard`; Zhao et al. 2023) gathers the weights of a layer when it is about to be
used and adds its gradients up part by part. The rest of training sees parameters as ever, each a tensor of which this
process holds some rows. In bytes per weight a process has

    4 (weights) + 4 (gradients) + 8 (averages) + 8 (AdamW's moments) = 24                           (1)

without, 24/W with it; layers are therefore sharded where (1) is more than half of a GPU's memory, which leaves the
other half to activations.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

from kuosan.denoisers.base import Denoiser
from kuosan.errors import UserError
from kuosan.training.parallel import World
from kuosan.training.settings import Settings

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

BYTES = 24  # eq. 1
ROOM = 0.5  # of a GPU's memory for them


def is_sharded(denoiser: Denoiser, settings: Settings, device: torch.device, world: World) -> bool:
    """Whether to share the state out.

    Raises:
        UserError: it was asked for and cannot be.
    """
    if world.alone or settings.shard == "none":
        return False
    if settings.shard == "auto":
        if device.type != "cuda":
            return False
        weights = sum(p.numel() for p in denoiser.parameters())
        if BYTES * weights < ROOM * torch.cuda.get_device_properties(device).total_memory:
            return False
    if denoiser.curves():
        raise UserError(
            "training.shard=full does not go with a learned schedule: leave one of them away, for example with --set "
            "schedule=cosine"
        )
    if settings.batch % world.size:
        raise UserError(
            f"training.shard=full needs the same number of items in every process, and training.batch "
            f"{settings.batch} is no multiple of {world.size}: set --set training.batch="
            f"{-(-settings.batch // world.size) * world.size}"
        )
    return True


def share_out(denoiser: Denoiser, device: torch.device, world: World) -> None:
    """Shard a denoiser's network in place, layer by layer, so that no process ever holds all of it on its device."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    network: Any = denoiser.network
    mesh = init_device_mesh(device.type, (world.size,))
    for part in (*layers(network), network):
        fully_shard(part, mesh=mesh)
        part.set_gradient_divide_factor(1.0)  # shares of a mean add up (`gradients`, eq. 1)
        part.set_force_sum_reduction_for_comms(True)  # and gloo knows no other way


def layers(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost members of lists of modules: blocks of a transformer, levels of a U-Net."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (layer for layer in child if any(True for _ in layer.parameters()))
        else:
            yield from layers(child)


def own(x: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return x.to_local() if _is_shared_out(x) else x


def whole(x: Tensor) -> Tensor:
    """All of it, for every process."""
    return x.full_tensor() if _is_shared_out(x) else x


def _is_shared_out(x: Tensor) -> TypeGuard[DTensor]:
    """Whether it is a `DTensor`. Their module takes longer to import than all of Kuosan, so that it is not imported to
    find out: a process without it has none."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)
