"""How surprised a model of windows is by whole pieces: each part of one given what is before it.

A piece is read in windows, each begun half a window after the one before, and of each only what is new is counted,
given the rest. By the chain rule the sum bounds the piece's own surprise,

    -log p(x) = Σ_k -log p(new_k | x before)  ≤  Σ_k ∫ κ'/(κ - 1) E[ Σ_{i hidden in new_k} -log q(x_i | x_t) ] dt    (1)

where x_t hides tokens of new_k alone (`training.tokens`, eq. 1). That is what counting models get as well, which know
what is before: windows on their own would cost a model more at each beginning. What follows the piece within its last
window is counted as said, as that is how its end is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.denoisers.tokens import TokenDenoiser
from kuosan.processes.discrete import Masked
from kuosan.training.tokens import GOLDEN, hidden_nats

BATCH = 32


def windows_of_piece(rows: Int64[Tensor, "s v"], steps: int, cycle: int, end: int) -> tuple[Tensor, Tensor]:
    """The windows of a piece, (m, T·V), and where each is new."""
    stride = max(1, steps // 2 // cycle) * cycle
    begins = [0]
    while begins[-1] + steps < len(rows):
        begins.append(begins[-1] + stride)
    padded = F.pad(rows, (0, 0, 0, begins[-1] + steps - len(rows)), value=end)
    x = torch.stack([padded[b : b + steps] for b in begins])
    new = torch.ones_like(x, dtype=torch.bool)
    new[1:, : steps - stride] = False
    return x.flatten(1), new.flatten(1)


@torch.no_grad()
def piece_nats(
    denoiser: TokenDenoiser,
    pieces: Sequence[tuple[Tensor, int]],
    cond: Mapping[str, Int64[Tensor, " p"]],
    *,
    steps: int,
    end: int,
    times: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Float[Tensor, " p"]:
    """Eq. 1 of every piece, the k-th of whose times lie in the k-th of ``times`` equal parts.

    Args:
        pieces: tokens (s, v), and steps of a cycle. cond: of each piece. steps: of a window.
    """
    process = denoiser.process
    assert isinstance(process, Masked)
    cut = [windows_of_piece(rows, steps, cycle, end) for rows, cycle in pieces]
    x, new = (torch.cat(parts) for parts in zip(*cut, strict=True))
    of = torch.repeat_interleave(torch.tensor([len(part) for part, _ in cut]))
    out = torch.zeros(len(pieces), dtype=torch.float64)
    for index in torch.arange(len(x)).split(BATCH):
        here, fresh = x[index].to(device), new[index].to(device)
        given = {k: v[of[index]].to(device) for k, v in cond.items()}
        seeds = Seeds.of(seed, index.tolist()).fold("bound")
        total = torch.zeros(len(here), dtype=torch.float64)
        for k in range(times):
            u = (k + (index.double() * GOLDEN + seeds.fold("time").uniforms()) % 1) / times
            u = u.clamp(1e-9, 1 - 1e-9)
            x_t = torch.where(fresh, process.corrupt(here, u, seeds.fold(k)), here)
            nats = hidden_nats(denoiser, x_t, here, x_t == process.size, u, **given)
            total += nats.sum(1).double().cpu() * process.rate(u) / (1 - process.keep(u))
        out.index_add_(0, of[index], total / times)
    return out
