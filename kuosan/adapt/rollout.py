"""Walking controls forwards, and their gradients backwards, one call of the network at a time.

As a walk is linear in everything but the estimates (`controls`, eq. 1), its adjoint is

    ȳ_k given;   n = k … 0:   m̄_j += B_nj ȳ_n (j < n),   ȳ_n = (∂x̂/∂y)ᵀ m̄_n                    (1)
    ∂/∂A_n = ⟨ȳ_n, z⟩,   ∂/∂B_nj = ⟨ȳ_n, m_j⟩,   ∂/∂log ρ_n = ⟨∂x̂/∂log ρ, m̄_n⟩               (2)

Each call is made anew on the way back, so that the memory is one call's however many there are; and every example
has a gradient of its own, which is what `fit` needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from kuosan.adapt.controls import Controls
from kuosan.adapt.flow import Flow
from kuosan.core.shapes import at, per_example

MEMORY = 2**30  # bytes that one call may keep for its gradient


@dataclass(frozen=True)
class Pairs:
    """Noise and what the flow makes of it: z and end, each (n, …), and the conditions of both."""

    z: Tensor
    end: Tensor
    cond: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, index: slice | Tensor) -> Pairs:
        return Pairs(self.z[index], self.end[index], {k: v[index] for k, v in self.cond.items()})


@dataclass(frozen=True)
class Walk:
    """A walk's states where the network was called, its answers, and its end."""

    states: tuple[Tensor, ...]
    estimates: tuple[Tensor, ...]
    end: Tensor


@torch.no_grad()
def walk(flow: Flow, controls: Controls, pairs: Pairs, piece: int = 64) -> Walk:
    """The walks of these pairs' noise, ``piece`` examples at a time."""
    parts = [
        _walk(flow, [controls] * len(part), part)
        for part in (pairs[low : low + piece] for low in range(0, len(pairs), piece))
    ]
    states = tuple(torch.cat(each) for each in zip(*(p.states for p in parts), strict=True))
    estimates = tuple(torch.cat(each) for each in zip(*(p.estimates for p in parts), strict=True))
    return Walk(states, estimates, torch.cat([p.end for p in parts]))


@torch.no_grad()
def ends(flow: Flow, many: Sequence[Controls], pairs: Pairs, piece: int = 64) -> list[Tensor]:
    """The ends that each of many controls of one kind leads these pairs' noise to, in shared batches."""
    index = torch.arange(len(many) * len(pairs))
    out = []
    for part in index.split(piece):
        of = [many[i] for i in (part // len(pairs)).tolist()]
        out.append(_walk(flow, of, pairs[part % len(pairs)]).end)
    return list(torch.cat(out).split(len(pairs)))


def _walk(flow: Flow, of: Sequence[Controls], pairs: Pairs) -> Walk:
    """Each example under its own controls."""
    z, k = pairs.z, len(of[0])
    state = _stacked(of, lambda c: c.state)
    terms = _stacked(of, lambda c: c.terms)
    log_rho = _stacked(of, lambda c: c.log_rho)
    states: list[Tensor] = []
    estimates: list[Tensor] = []
    for n in range(k + 1):
        y = at(state[:, n], z) * z
        for j, m in enumerate(estimates):
            y = y + at(terms[:, n, j], m) * m
        if n == k:
            break
        states.append(y)
        if n == 0 and of[0].far:
            estimates.append(flow.far(y, **pairs.cond))
            continue
        w = None if of[0].w is None else _stacked(of, lambda c: c.w)[:, n]
        estimates.append(flow.estimate(y, log_rho[:, n], w, **pairs.cond))
    return Walk(tuple(states), tuple(estimates), y)


def _stacked(of: Sequence[Controls], part: Callable[[Controls], Any]) -> Tensor:
    """A part of each, (b, …); a view where all are the same."""
    first: Tensor = part(of[0])
    if all(c is of[0] for c in of):
        return first.expand(len(of), *first.shape)
    return torch.stack([part(c) for c in of])


def gradients(
    flow: Flow, controls: Controls, pairs: Pairs, walked: Walk, of: Sequence[Tensor], piece: int
) -> list[Float64[Tensor, "b p"]]:
    """For each direction d (b, …) in ``of`` the gradient of ⟨d, end⟩ per example, in the order of `Controls.flat`."""
    parts = []
    for low in range(0, len(pairs), piece):
        s = slice(low, low + piece)
        part = Walk(tuple(y[s] for y in walked.states), tuple(m[s] for m in walked.estimates), walked.end[s])
        parts.append(_gradients(flow, controls, pairs[s], part, [d[s] for d in of]))
    return [torch.cat(columns) for columns in zip(*parts, strict=True)]


def _gradients(
    flow: Flow, controls: Controls, pairs: Pairs, walked: Walk, of: Sequence[Tensor]
) -> list[Tensor]:
    k, b, z = len(controls), len(pairs), pairs.z
    zeros = torch.zeros
    into = [
        (zeros(b, k).double(), zeros(b, k + 1).double(), zeros(b, k + 1, k).double(), zeros(b, k).double())
        for _ in of
    ]
    y_bar = list(of)
    m_bar = [[torch.zeros_like(z) for _ in range(k)] for _ in of]
    for n in range(k, -1, -1):
        if n == 0 and controls.far:  # nothing before it is free
            continue
        if n < k:
            y = walked.states[n].detach().requires_grad_()
            log_rho = controls.log_rho[n].expand(b).clone().requires_grad_()
            w = None if controls.w is None else controls.w[n].expand(b).clone().requires_grad_()
            inputs = (y, log_rho) if w is None else (y, log_rho, w)
            with torch.enable_grad():
                m = flow.estimate(y, log_rho, w, **pairs.cond)
            for i, bars in enumerate(m_bar):
                found = torch.autograd.grad(m, inputs, bars[n], retain_graph=i < len(of) - 1)
                y_bar[i], into[i][0][:, n] = found[0], found[1]
                if w is not None:
                    into[i][3][:, n] = found[2]
                flow.calls += 2 * b
        for i, (_, state, terms, _) in enumerate(into):
            state[:, n] = per_example(y_bar[i] * z).double()
            for j, c in enumerate(controls.terms[n, :n].tolist()):
                terms[:, n, j] = per_example(y_bar[i] * walked.estimates[j]).double()
                m_bar[i][j].add_(y_bar[i], alpha=c)
    return [controls.gradient(*parts) for parts in into]


def piece_of(flow: Flow, pairs: Pairs, w: float | None = None, most: int = 64) -> int:
    """How many examples a call may hold within `MEMORY`, by what one example keeps for its gradient."""
    kept = 0

    def pack(x: Tensor) -> Tensor:
        nonlocal kept
        kept += x.numel() * x.element_size()
        return x

    one = pairs[:1]
    y = one.z.detach().clone().requires_grad_()
    log_rho = torch.zeros(1, dtype=torch.float64)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        weight = None if w is None else torch.full((1,), w, dtype=torch.float64)
        flow.estimate(y, log_rho, weight, **one.cond)
    return max(1, min(most, int(MEMORY / max(kept, 1))))
