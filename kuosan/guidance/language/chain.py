"""The posterior that knows a constraint: a hidden Markov chain.

A network over tokens gives every position its own posterior, q(x | x_t) = Π_i q_i(x_i). Given that x satisfies a
constraint whose automaton moves from s_i to s_{i+1} on reading x_i, the states form a Markov chain, as in a hidden
Markov model (Rabiner 1989; for guided text, Zhang et al. 2023). With q_i(U) the probability of a set U of tokens,
the chance that the rest of the text is accepted from state s at position i is

    β_L(s) = [s accepts],   β_i(s) = Σ_edges (s, U, s') of q_i(U) β_{i+1}(s')                       (1)

and given acceptance the chain takes an edge with probability

    P_i(U, s' | s) = q_i(U) β_{i+1}(s') / β_i(s)                                                    (2)

then any token of U in proportion to q_i. Eq. 2 walked forwards draws x from exactly q(x | x_t, accepted). Pushing
the distribution π_i of states through it gives the exact marginals

    q_i(v | accepted) = q_i(v) Σ_{U ∋ v} Σ_edges π_i(s) β_{i+1}(s') / β_i(s)                         (3)

β is kept as a logarithm: one state may be 10^400 times less likely than its neighbour, yet the only one that what is
already written allows. A position that is written has all its mass on its token. Elsewhere no token has less than
`FLOOR`, so that what the constraint demands stays possible where the network has ruled it out.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from kuosan.core.posteriors import Categorical
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.guidance.language.tokens import Step, TokenAutomaton

FLOOR = 1e-35
"""As little as single precision can say of a token."""


class Accepted(Categorical):
    """q(x | x_t, accepted): joint over all positions of a text, unlike any other posterior over tokens.

    ``mean`` are the exact marginals (b, L, size), ``logits`` their logarithms, and `sample` draws all positions
    together. Values drawn from ``mean``, position by position, may violate the constraint; those of `sample` never.

    Args:
        q: what the network says, logits (b, L, size).
        x_t: the state (b, L); a mask is written as token ``size``.
        automaton: the constraint.

    Raises:
        UserError: no text that keeps what ``x_t`` has written satisfies the constraint.
    """

    def __init__(self, q: Categorical, x_t: Int64[Tensor, "b L"], automaton: TokenAutomaton):
        size = q.logits.shape[-1]
        hidden = x_t == size
        # In the network's own precision, as is any other posterior's mean; sums and products are in double. (Half
        # precision cannot hold the floor.) Without gradients, which a draw has none of.
        rows = q.logits.detach().flatten(0, 1) if hidden.all() else q.logits.detach()[hidden]
        p = rows.to(torch.promote_types(rows.dtype, torch.float32)).softmax(-1).clamp_min_(FLOOR)
        classes, members = automaton.classes.to(x_t.device), automaton.members.to(x_t.device)
        of_class = members.new_zeros(len(p), members.shape[1]).index_add_(1, classes, p.double())
        sets = members.new_zeros(*x_t.shape, len(members) + 1)  # a last column of 0 for the padding of tables
        sets[..., :-1][hidden] = of_class @ members.T
        sets[..., :-1][~hidden] = members.T[classes[x_t[~hidden]]]
        sets = sets.permute(1, 2, 0).contiguous()
        steps = automaton.steps(x_t.shape[1], x_t.device)
        # Past the frozen base, which would set its own field alone.
        self.__dict__.update(automaton=automaton, x_t=x_t, _hidden=hidden, _p=p, _of_class=of_class)
        self.__dict__.update(_classes=classes, _members=members, _sets=sets, _steps=steps)
        self.__dict__.update(_beta=_backward(steps, sets))
        self._check()

    automaton: TokenAutomaton
    x_t: Int64[Tensor, "b L"]
    _hidden: Bool[Tensor, "b L"]
    _p: Float[Tensor, "h size"]  # of hidden positions alone, as is the next
    _of_class: Float[Tensor, "h classes"]
    _classes: Int64[Tensor, " size"]
    _members: Float[Tensor, "sets classes"]
    _sets: Float[Tensor, "L sets+1 b"]  # examples last: what the recursions gather is then contiguous
    _steps: list[Step]
    _beta: list[Float[Tensor, "s b"]]

    @property
    def log_acceptance(self) -> Float[Tensor, " b"]:
        """log Σ_x q(x | x_t) [x accepted], in nats: how far the constraint bends what the network says."""
        return self._beta[0][0]

    @cached_property
    def mean(self) -> Float[Tensor, "b L size"]:
        """The exact marginals (eq. 3)."""
        share = torch.zeros_like(self._sets)  # Σ π β'/β over the edges of every set
        state = torch.ones_like(self._beta[0])
        for i, step in enumerate(self._steps):
            ahead = state.new_zeros(step.following, len(self.x_t))
            for e in step.chunks():
                q = self._sets[i].index_select(0, step.sets[e])
                # At most 1/q, hence finite, but where what is written rules something out: nothing passes there.
                flow = self._beta[i + 1].index_select(0, step.into[e])
                flow = flow.sub_(self._beta[i].index_select(0, step.source[e])).exp_()
                flow = flow.mul_(state.index_select(0, step.source[e]))
                flow = flow.nan_to_num_(nan=0.0, posinf=0.0)
                share[i].index_add_(0, step.sets[e], flow)
                ahead.index_add_(0, step.into[e], flow.mul_(q))
            state = ahead
        share = share[:, :-1].permute(2, 0, 1)[self._hidden]
        out = self._p.new_zeros(*self.x_t.shape, self._p.shape[1])
        out[self._hidden] = self._p * (share @ self._members).to(self._p)[:, self._classes]
        written = (~self._hidden).nonzero(as_tuple=True)
        out[(*written, self.x_t[written])] = 1.0
        return out

    @cached_property
    def logits(self) -> Float[Tensor, "b L size"]:
        """Logarithms of the marginals; -inf where the constraint rules a token out."""
        return self.mean.log()

    def sample_at(self, seeds: Seeds, where: Bool[Tensor, "b L"]) -> Int64[Tensor, "b L"]:
        """`sample`: positions are not independent, so none can be left out."""
        return self.sample(seeds)

    def sample(self, seeds: Seeds) -> Int64[Tensor, "b L"]:
        """An exact joint draw: it satisfies the constraint, and so does every text that keeps any part of it."""
        u = {name: seeds.fold(name).uniform(self.x_t.double()) for name in ("path", "class", "token")}
        rows = torch.arange(len(self.x_t), device=self.x_t.device)
        state, path = torch.zeros_like(rows), torch.empty_like(self.x_t)
        for i, step in enumerate(self._steps):
            out = step.out[state]
            log_p = (
                self._sets[i][step.sets[out], rows[:, None]].log()
                + self._beta[i + 1][step.into[out], rows[:, None]]
            )
            # Relative to the largest: the weights' sum is β, but for its rounding.
            edge = invert((log_p - log_p.amax(-1, keepdim=True)).exp(), u["path"][:, i])
            edge = out[rows, edge]
            state, path[:, i] = step.into[edge], step.sets[edge]
        out = self.x_t.clone()
        kinds = invert(self._of_class * self._members[path[self._hidden]], u["class"][self._hidden])
        out[self._hidden] = self._tokens(kinds, u["token"][self._hidden])
        return out

    def _tokens(self, kinds: Int64[Tensor, " h"], u: Float[Tensor, " h"]) -> Int64[Tensor, " h"]:
        """A token of the given class at every hidden position: class by class, as few columns are any one's."""
        tokens = torch.empty_like(kinds)
        for kind in kinds.unique().tolist():
            own, here = (self._classes == kind).nonzero()[:, 0], (kinds == kind).nonzero()[:, 0]
            weights = self._p[here[:, None], own] if len(own) > 1 else self._p.new_ones(len(here), 1)
            tokens[here] = own[invert(weights, u[here])]
        return tokens

    def _check(self) -> None:
        impossible = self.log_acceptance.isneginf().nonzero()[:, 0].tolist()
        if impossible:
            row = self.x_t[impossible[0]].tolist()
            pieces = self.automaton.pieces
            text = b"".join(pieces[v] if v < len(pieces) else b"\xe2\x96\xa1" for v in row).decode(
                errors="replace"
            )
            text = text.rstrip("□") + "□" if text.endswith("□" * 9) else text  # an open end says little
            raise UserError(
                f"no text of {len(row)} tokens satisfies {self.automaton.what} and keeps what is already written, "
                f"{text!r} (example {impossible[0]}; □ is open): loosen the constraint, or write less beforehand"
            )


def _backward(steps: list[Step], sets: Float[Tensor, "L sets+1 b"]) -> list[Float[Tensor, "s b"]]:
    """log β of every position's states, first to last (eq. 1).

    Sums of plain numbers are several times faster than sums of logarithms, but reach only so far. So states are
    taken by bands of β that double precision can hold next to each other; mostly there is just one.
    """
    beta = [sets.new_zeros(steps[-1].following, sets.shape[-1])]
    for q, step in zip(reversed(sets.unbind()), reversed(steps), strict=True):
        top = beta[-1].amax(0).nan_to_num(neginf=0.0)
        band = ((top - beta[-1]) / _BAND).floor()
        last = band.masked_fill(band.isinf(), 0).max()  # an impossible state is in no band
        sums = []
        for k in range(int(last) + 1):
            ahead = torch.where(band == k, (beta[-1] - top + k * _BAND).exp(), 0.0)
            total = sets.new_zeros(len(step.out), sets.shape[-1])
            for e in step.chunks():
                terms = q.index_select(0, step.sets[e]).mul_(ahead.index_select(0, step.into[e]))
                total.index_add_(0, step.source[e], terms)
            sums.append(total.log() + top - k * _BAND)
        beta.append(torch.stack(sums).logsumexp(0) if len(sums) > 1 else sums[0])
    return beta[::-1]


_BAND = 250 * math.log(10)
"""With `FLOOR` below it, within the 308 decimal places of double precision."""


def invert(weights: Float[Tensor, "n k"], u: Float[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """The index at which the cumulative sum, in double precision, passes u times the total; never one of weight 0."""
    n, k = weights.shape
    if k > 4 * _BLOCK:  # first the block, then the index in it, for a fraction of the sums
        blocks = F.pad(weights, (0, -k % _BLOCK)).view(n, -1, _BLOCK)
        sums = blocks.sum(-1, dtype=torch.float64)
        block = invert(sums, u)
        before = sums.cumsum(-1) - sums
        rows = torch.arange(n, device=u.device)
        inside = (u * sums.sum(-1) - before[rows, block]) / sums[rows, block]
        return block * _BLOCK + invert(blocks[rows, block], inside.clamp(0, 1))
    total = weights.cumsum(-1, dtype=torch.float64)
    # Rounding must not lift the threshold to the total itself, which the last indices may share at weight 0.
    threshold = u.clamp_max(1 - 2.0**-52) * total[:, -1]
    return (total <= threshold[:, None]).sum(-1)


_BLOCK = 64
