"""The gradient of a batch that is worked on in parts, here and elsewhere.

A batch of B examples has the loss Σ_i L_i / B, so the parts of one (micro-batches, and every process's share) add up:

    g = Σ_parts (b/B) ∇ mean(L over the part)                                                     (1)

and so does what a learned schedule descends, the second moment Σ_i L_i² / B (see `loop`). What each example is, its
noise, its time and its dropout depend on it alone, so (1) is the gradient of the undivided batch but for the order of
the sum.

Between processes the sum goes in buckets while backward still runs: the last micro-batch's hook on every parameter
says that its gradient is final, and a bucket is sent when all of its own are. That is what DistributedDataParallel
does; this does it without a wrapper around the network (whose names and methods others use), for shares of unequal
size, and for parameters that a share may leave alone.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from kuosan.errors import out_of_memory
from kuosan.training.objective import Found
from kuosan.training.parallel import World

BUCKET = 2**23  # numbers: 32 MiB of gradients are on their way while the next are computed


class NoMemoryError(Exception):
    """A micro-batch did not fit, here or elsewhere; all gradients are forgotten."""


class Gradients:
    """Sums gradients over parts of a batch and over processes.

    Args:
        parameters: trained.
        curves: those of them that descend the second moment of the losses.
        summed: whether processes have to add theirs; sharded parameters see to that themselves.
    """

    def __init__(
        self, parameters: list[nn.Parameter], curves: list[nn.Parameter], world: World, summed: bool
    ):
        self.parameters, self.curves, self.world = parameters, curves, world
        self.summed = summed and not world.alone
        apart = {id(curve) for curve in curves}
        plain = [p for p in reversed(parameters) if id(p) not in apart]  # backward ends with the first layer
        self.buckets = list(_buckets(plain)) + ([curves] if curves else [])
        self._place = {id(p): k for k, bucket in enumerate(self.buckets) for p in bucket}
        self._missing: list[int] = []
        self._sent: list[Callable[[], Tensor]] = []
        self._last = False
        if self.summed:
            for p in plain:
                p.register_post_accumulate_grad_hook(self._arrived)

    def of(self, draw: Callable[[slice], Found], batch: int, parts: list[slice]) -> Found:
        """Fill in the gradients of a batch of ``batch``; what it said, all of it, on every process.

        Args:
            draw: what the examples of a slice of this process's share say.
            parts: the slices that its share is divided into.

        Raises:
            NoMemoryError: for every process alike.
        """
        self._missing = [len(bucket) for bucket in self.buckets]
        self._sent, fits = [], True
        found: list[Found] = []
        try:
            for part in parts:
                self._last = part is parts[-1]
                found.append(self._backward(draw(part), batch))
        except Exception as e:
            if not out_of_memory(e) or not (self.summed or self.world.alone):
                raise  # sharded, the others wait in the middle of the network for what this process cannot send
            fits, found = False, []
        self._last = False
        said = self._put_together(found, batch, fits)
        if said is None:
            for p in self.parameters:
                p.grad = None
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            raise NoMemoryError
        return said

    def _backward(self, found: Found, batch: int) -> Found:
        """Eq. 1's term of one part."""
        losses, share = found.losses, len(found.losses) / batch
        if self.curves:
            before = [p.grad for p in self.curves]
            slopes = torch.autograd.grad(losses.square().mean() * share, self.curves, retain_graph=True)
            for curve in self.curves:
                curve.grad = None  # or the mean's slope would be added in place
            (losses.mean() * share).backward()
            for curve, slope, sofar in zip(self.curves, slopes, before, strict=True):
                curve.grad = slope if sofar is None else sofar + slope
        else:
            (losses.mean() * share).backward()
        return Found(losses.detach(), found.errors)

    def _put_together(self, found: list[Found], batch: int, fits: bool) -> Found | None:
        """What all parts of all processes said, their gradients added; None where one did not fit."""
        mine = _joined(found) if fits else None
        if self.world.alone:
            return mine
        if self.summed:
            self._send(len(self.buckets))
        # One message: whether it did not fit, which gradients there are, and what was said, each at its own place.
        used = [p.grad is not None for p in self.parameters]
        rows, share = torch.zeros(3, batch, dtype=torch.float64), self.world.share(batch)
        if mine is not None:
            rows[0, share] = mine.losses.double().cpu()
            rows[1:, share] = torch.nan  # errors may be of some examples alone
            for row, said in zip(rows[1:], mine.errors or (), strict=False):
                row[share][: len(said)] = said.double().cpu()
        told = torch.cat([torch.tensor([not fits, *used], dtype=torch.float64), rows.flatten()])
        told = self.world.add(told.to(self.parameters[0].device)).cpu()
        if self.summed:
            self._receive([bool(n) for n in told[1 : 1 + len(used)]])
        if told[0] or mine is None:
            return None
        losses, levels, squared = told[1 + len(used) :].view(3, batch)
        there = ~levels.isnan()
        if not there.any():
            return Found(losses.to(mine.losses))
        return Found(losses.to(mine.losses), (levels[there].to(mine.losses), squared[there].to(mine.losses)))

    def _arrived(self, p: Tensor) -> None:
        """Hook: a gradient is final if it is the last micro-batch's."""
        if not self._last:
            return
        place = self._place[id(p)]
        self._missing[place] -= 1
        ready = 0
        while ready < len(self.buckets) and not self._missing[ready]:
            ready += 1
        self._send(ready)

    def _send(self, count: int) -> None:
        """Send buckets up to the first ``count``, always in one order: everybody must be speaking of the same."""
        for bucket in self.buckets[len(self._sent) : count]:
            flat = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in bucket]
            self._sent.append(self.world.adding(torch.cat(flat)))

    def _receive(self, used: list[bool]) -> None:
        """The sums as gradients, of parameters that somebody used."""
        somewhere = {id(p) for p, u in zip(self.parameters, used, strict=True) if u}
        for bucket, wait in zip(self.buckets, self._sent, strict=True):
            for p, total in zip(bucket, wait().split([p.numel() for p in bucket]), strict=True):
                if id(p) in somewhere:
                    p.grad = torch.empty_like(p) if p.grad is None else p.grad
                    p.grad.copy_(total.view(p.shape))


def _joined(found: list[Found]) -> Found:
    """What parts said, as one."""
    if len(found) == 1:
        return found[0]
    errors = [f.errors for f in found if f.errors is not None]
    losses = torch.cat([f.losses for f in found])
    if not errors:
        return Found(losses)
    return Found(losses, (torch.cat([e[0] for e in errors]), torch.cat([e[1] for e in errors])))


def _buckets(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Neighbours of one type, up to `BUCKET` numbers."""
    bucket: list[nn.Parameter] = []
    for p in parameters:
        if bucket and (p.dtype != bucket[0].dtype or sum(q.numel() for q in bucket) + p.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(p)
    if bucket:
        yield bucket


def parts_of(count: int, most: int) -> list[slice]:
    """As few slices of ``count`` things as hold at most ``most`` each, as equal as they can be."""
    k = -(-count // most)
    return [slice(i * count // k, (i + 1) * count // k) for i in range(k)]
