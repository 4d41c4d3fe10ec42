"""Processes that work on one run.

A world of W processes divides whatever is counted (examples of a batch, chunks of samples) into W consecutive shares.
What each makes of its share is a function of the numbers in it alone (`core.random.Seeds`), so what all shares come to
does not depend on W: to the bit where shares are put side by side, and as far as sums in another order agree where they
are added. Process 0 decides whatever is a matter of one clock or one disk, and tells the others; it alone writes.

Messages are numbers and JSON over gloo, gradients go by NCCL where there are GPUs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kuosan.errors import UserError
from kuosan.training import launch

PATIENCE = timedelta(
    days=7
)  # others may wait for process 0 as long as a codec trains; the launcher sees who dies


class LostError(UserError):
    """Another process is gone, in the middle of something that all do together."""


@dataclass(frozen=True)
class World:
    """Process ``rank`` of ``size``."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that decides and writes."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.size == 1

    def share(self, count: int) -> slice:
        """This process's part of ``count`` things: consecutive, and as large as anybody's but for one; the first has
        something where there is anything."""
        return slice(-(-self.rank * count // self.size), -(-(self.rank + 1) * count // self.size))

    def add(self, x: Tensor) -> Tensor:
        """The sum of everybody's ``x``, in its place."""
        if not self.alone:
            with _together():
                dist.all_reduce(x)
        return x

    def adding(self, x: Tensor) -> Callable[[], Tensor]:
        """`add` while other work goes on: call what it returns for the sum."""
        if self.alone:
            return lambda: x
        with _together():
            work = dist.all_reduce(x, async_op=True)

        def wait() -> Tensor:
            with _together():
                work.wait()
            return x

        return wait

    def tell(self, value: Any = None) -> Any:
        """What process 0 says; of the others nothing is heard. Of plain data, and as JSON gives it back."""
        if self.alone:
            return value
        data = json.dumps(value).encode() if self.leads else b""
        size = self._first(torch.tensor([len(data)]))
        text = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(int(size)).byte()
        return json.loads(self._first(text).numpy().tobytes())

    def hear(self, value: Any) -> list[Any]:
        """What everybody says, in the order of their numbers."""
        if self.alone:
            return [value]
        data = json.dumps(value).encode()
        sizes = torch.zeros(self.size, dtype=torch.int64)
        sizes[self.rank] = len(data)
        longest = int(self.add(sizes).max())
        rows = torch.zeros(self.size, longest, dtype=torch.uint8)
        rows[self.rank, : len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        self.add(rows)
        return [json.loads(row[:n].numpy().tobytes()) for row, n in zip(rows, sizes.tolist(), strict=True)]

    def spread(self, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Process 0's tensors, on the CPU."""
        if self.alone:
            return dict(tensors or {})
        mine = {} if tensors is None else {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        forms = self.tell([[k, str(v.dtype).removeprefix("torch."), list(v.shape)] for k, v in mine.items()])
        out = {}
        for name, dtype, shape in forms:
            out[name] = mine[name] if self.leads else torch.empty(shape, dtype=getattr(torch, dtype))
            if out[name].numel():
                self._first(out[name].view(-1).view(torch.uint8))
        return out

    def stack(self, x: Tensor | None) -> Tensor | None:
        """Everybody's rows below one another, for process 0; None for the others. Some may have none."""
        if self.alone:
            return x
        counts = [int(n) for n in self.hear(0 if x is None else len(x))]
        with _together():
            if not self.leads:
                if x is not None:
                    dist.send(x.detach().cpu().contiguous(), 0)
                return None
            assert x is not None
            parts = [x.detach().cpu()]
            for other in range(1, self.size):
                if counts[other]:
                    parts.append(torch.empty(counts[other], *x.shape[1:], dtype=x.dtype))
                    dist.recv(parts[-1], other)
            return torch.cat(parts)

    def meet(self) -> None:
        """Wait until everybody is here."""
        self.tell(self.hear(None) and None)

    @contextmanager
    def first(self) -> Iterator[None]:
        """Process 0 does it, then the others, who find what it left on the disk."""
        if not self.leads:
            self.meet()
        yield
        if self.leads:
            self.meet()

    def _first(self, x: Tensor) -> Tensor:
        with _together():
            dist.broadcast(x, 0)
        return x


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as e:  # of all collectives, when a peer's connection closes
        raise LostError(
            "another process of this run has ended: its own message says why; the same command goes on from the last "
            "checkpoint"
        ) from e


def world() -> World:
    """The world of this process: alone, unless it has joined others."""
    return World(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else World()


def join() -> World:
    """Meet the processes that were launched together with this one; again and again, if you like.

    Raises:
        UserError: more processes than GPUs on this machine, or the others cannot be reached.
    """
    if launch.processes() > 1 and not dist.is_initialized():
        backend = "gloo"
        if torch.cuda.is_available():
            if launch.place() >= torch.cuda.device_count():
                raise UserError(
                    f"process {launch.place() + 1} of this machine has no GPU of its own, as there are "
                    f"{torch.cuda.device_count()}: give --nproc-per-node {torch.cuda.device_count()}"
                )
            torch.cuda.set_device(launch.place())
            backend = "cpu:gloo,cuda:nccl"
        try:
            dist.init_process_group(backend, timeout=PATIENCE)
        except (RuntimeError, ValueError) as e:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise UserError(
                f"the other {launch.processes() - 1} processes cannot be reached at {where} "
                f"({str(e).splitlines()[0][:120]}): look at the launcher's --rdzv-endpoint and the network"
            ) from e
    return world()


def leave() -> None:
    """Part; from here on every process is alone."""
    if dist.is_initialized():
        dist.destroy_process_group()


def fails_first() -> bool:
    """Whether nobody failed before: one sentence is enough, and the first knows best. True for whoever is alone."""
    if not dist.is_initialized():
        return launch.rank() == 0
    try:
        return int(dist.distributed_c10d._get_default_store().add("kuosan/failed", 1)) == 1
    except RuntimeError:  # the store went with its process
        return True
