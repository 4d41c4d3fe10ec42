"""How a network is run in training, and which way is fastest here: measured, not assumed.

A `Way` has three parts: the precision of products, the layout of convolutions in memory, and whether the network is
compiled. None of their values is the fastest on every processor and for every network (bfloat16 nearly halves the step
of a transformer of width 192 here, and slows down one of width 64), so candidates are tried, a pass forwards and
backwards each in turn, so that whatever else the machine does strikes all alike. Against the gradient g of the plain
way (float32, contiguous, eager), a way's gradient is off by

    e = ‖g_way - g‖ / ‖g‖                                                                             (1)

and more than `BOUND` puts it out. Bfloat16 keeps 8 bits, 0.4 % of a factor: networks here are at 0.2 to 1.3 %, while
the gradient of another batch differs by more than 100 %. Of the rest the fastest is taken, or the plainest of those
that are nearly as fast (`TIE`): what gains nothing is not worth explaining.

The precision is a context (`settings.casting`), so weights, averages and the optimiser never leave float32. The layout
is a permutation of strides: the same values, saved in the same order. A compiled network has the same parameters under
the same names; where it cannot be compiled, it runs as it is, and that is said.
"""

from __future__ import annotations

import logging
import os
import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from kuosan.networks.dropout import Dropout
from kuosan.training.settings import Layout, Precision, casting, rounding

BOUND = 0.05
TIE = 0.04
ROUNDS = 5
FEW = 4  # convolutions that a network may have and still be compiled soon on a CPU
DROPS = "masks of dropout that depend on the batch cannot be compiled"
_LAYOUTS: dict[Layout, torch.memory_format] = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


@dataclass(frozen=True)
class Way:
    """How a network is run; the defaults are the plain way."""

    precision: Precision = "float32"
    layout: Layout = "contiguous"
    compile: bool = False

    def __str__(self) -> str:
        words = [
            self.precision,
            "channels last" * (self.layout == "channels_last"),
            "compiled" * self.compile,
        ]
        return ", ".join(filter(None, words))

    @property
    def extras(self) -> int:
        """How much about it is not plain."""
        plain = Way()
        return sum(getattr(self, part) != getattr(plain, part) for part in vars(plain))


@dataclass(frozen=True)
class Trial:
    """A way that was tried: median seconds of a pass, and e of eq. 1."""

    way: Way
    seconds: float
    error: float


def choose(trials: Sequence[Trial]) -> Trial:
    """The plainest of those that take at most 1 + `TIE` of the fastest admissible one's time, the faster if there are
    several. The first, which the others were held against, is always admissible."""
    able = [t for t in trials if t is trials[0] or t.error <= BOUND]
    limit = (1 + TIE) * min(t.seconds for t in able)
    return min((t for t in able if t.seconds <= limit), key=lambda t: (t.way.extras, t.seconds))


def candidates(network: nn.Module, device: torch.device, bfloat16: bool) -> list[Way]:
    """Ways to run it without compiling, the plain one first: layouts where there are convolutions, precisions as the
    device has units for them (which for ``bfloat16`` the caller knows)."""
    precisions: list[Precision] = ["float32"]
    if bfloat16:
        precisions += ["tf32", "bfloat16"] if device.type == "cuda" else ["bfloat16"]
    sizes = {p.ndim for p in network.parameters()}
    layouts: list[Layout] = (
        ["contiguous", "channels_last"] if 4 in sizes and 5 not in sizes else ["contiguous"]
    )
    return [Way(precision, layout) for precision in precisions for layout in layouts]


def cannot_compile(network: nn.Module, device: torch.device) -> str:
    """Why `torch.compile` is not worth a trial; "" where it is: with Triton for CUDA, with a C++ compiler for a CPU.

    Compiling a transformer of 4 blocks took half a minute of a core here, a U-Net of 1.7 M more than two.
    """
    if _drops(network):
        return DROPS
    if device.type == "cuda":
        return "" if find_spec("triton") else "Triton is not installed"
    if device.type != "cpu":
        return f"not for {device.type}"
    if sum(p.ndim > 3 for p in network.parameters()) > FEW:
        return "a network of convolutions takes too long to compile on a CPU"
    return "" if any(map(shutil.which, ("g++", "clang++", "c++"))) else "there is no C++ compiler"


def _drops(network: nn.Module) -> bool:
    return any(isinstance(m, Dropout) and m.rate > 0 for m in network.modules())


def arrange(model: nn.Module, layout: Layout) -> None:
    """Bring the weights into a layout, in place; gradients and the optimiser's memory follow theirs."""
    model.to(memory_format=_LAYOUTS[layout])  # type: ignore[call-overload]


def compiled(model: nn.Module, once: Callable[[], object]) -> str:
    """Compile the model's ``network`` in place, and make it run ``once``; why it could not be, or "".

    Of CUDA the graphs are captured too. A network that cannot be compiled is as it was.
    """
    from torch._dynamo.exc import TorchDynamoException  # costs a second

    network: nn.Module = model.network  # type: ignore[assignment]
    device = next(network.parameters()).device
    if _drops(network):
        return DROPS
    if "TORCH_LOGS" not in os.environ:
        torch._logging.set_logs(dynamo=logging.ERROR)  # where it cuts a network is nobody's business here
    network.compile(mode="reduce-overhead" if device.type == "cuda" else None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it found in other people's networks
            once()
    except TorchDynamoException as e:
        network._compiled_call_impl = None  # there is no public way back
        return (str(e).strip() or type(e).__name__).splitlines()[0][:120]
    return ""


def measure(
    model: nn.Module,
    loss: Callable[[], Tensor],
    ways: Sequence[Way],
    device: torch.device,
    *,
    seconds: float,
) -> list[Trial]:
    """Try ways of running a throwaway model in training mode; the first is what the others are held against, and
    the network is `compiled` where one of them needs it.

    Args:
        loss: of a fixed batch.
        seconds: after which no further round of passes is begun; there are two at least, and `ROUNDS` at most.
    """

    def run(way: Way) -> float:
        """Seconds of a pass."""
        arrange(model, way.layout)
        model.zero_grad(set_to_none=True)
        plainly = torch.compiler.set_stance("force_eager") if mixed and not way.compile else nullcontext()
        started = _now(device)
        with rounding(way.precision), plainly:
            with casting(way.precision, device):
                found = loss()
            found.backward()
        return _now(device) - started

    mixed = any(way.compile for way in ways)
    trained = [p for p in model.parameters() if p.requires_grad]
    began = _now(device)
    times: list[list[float]] = [[] for _ in ways]
    errors: list[float] = []
    plain: list[Tensor] = []
    for way in ways:
        run(way)  # prepares memory, threads and kernels
        now = [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in trained]
        plain = plain or now
        off = _norm([a - b for a, b in zip(now, plain, strict=True)])
        errors.append(off / max(_norm(plain), 1e-30))
    for turn in range(ROUNDS):
        if turn >= 2 and _now(device) - began > seconds:
            break
        for way, taken in zip(ways, times, strict=True):
            taken.append(run(way))
    model.zero_grad(set_to_none=True)
    rows = zip(ways, times, errors, strict=True)
    return [Trial(way, statistics.median(taken), error) for way, taken, error in rows]


def _norm(parts: Sequence[Tensor]) -> float:
    return float(torch.stack(torch._foreach_norm(list(parts))).norm()) if parts else 0.0


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
