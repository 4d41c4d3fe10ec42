"""Shapes: what a state is, and the one place that broadcasts.

A *state* is a tensor whose first axis counts examples, or a mapping of names to such tensors (a picture
with its caption and its sound). A *time* is always one number per example, shape ``b``, in float64 on the
CPU: coefficients are computed there at full precision and only then cast to the state's type and device,
so that a float32 sample is not spoilt by float32 coefficients and no coefficient ever waits for a GPU.

Implicit broadcasting is the classic silent error of diffusion code: a ``(b,)`` coefficient times a
``(b, c, 8, 8)`` picture with b = 8 is accepted and wrong. Hence `at`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

# A Tensor or a Mapping[str, Tensor]. Which of them is settled by the process; a checker need not be told again.
State: TypeAlias = Any
PICTURE = ("height", "width")  # the sides of a picture behind its channels
VOLUME = ("depth", *PICTURE)
GIVEN, BESIDE, AVERAGES = "(given)", "(beside)", "(averages)"
SPATIAL = frozenset({GIVEN, BESIDE, AVERAGES})
"""Conditions that say something of every place of a state, under names that no column of a table bears: what is given
of it, what stands beside it (a map, a small picture), the averages that it is to have."""
Time: TypeAlias = Float[Tensor, " b"]


def at(c: Tensor, x: Tensor) -> Tensor:
    """Coefficients ``c`` (b,) as a tensor that multiplies ``x`` (b, ...) example by example.

    Cast to the type and device of ``x`` when both are floating point.
    """
    if c.ndim != 1 or len(c) not in (1, len(x)):
        raise ValueError(
            f"one coefficient per example is needed: {tuple(c.shape)} for a state {tuple(x.shape)}"
        )
    c = c.to(device=x.device, dtype=x.dtype if c.is_floating_point() and x.is_floating_point() else c.dtype)
    return c.reshape(-1, *(1,) * (x.ndim - 1))


def per_example(x: Tensor) -> Float[Tensor, " b"]:
    """Sum of ``x`` (b, ...) over everything but the examples."""
    return x.flatten(1).sum(1) if x.ndim > 1 else x


def is_shared(t: Time) -> bool:
    """Whether all examples stand at one time, known without reading it (an expanded scalar)."""
    return not t.stride(0) or len(t) == 1


def repeat_time(t: Time, times: int) -> Time:
    """The times of a batch that holds ``times`` copies of the batch one after the other."""
    return t[:1].expand(len(t) * times) if is_shared(t) else t.repeat(times)


def map_state(f: Callable[..., Tensor], *states: Any) -> Any:
    """``f`` on each leaf of states of one structure."""
    first = states[0]
    if isinstance(first, Mapping):
        return {name: f(*(s[name] for s in states)) for name in first}
    return f(*states)


def leaves(x: State) -> list[Tensor]:
    """The tensors of a state, in the order of their names."""
    return [x[name] for name in sorted(x)] if isinstance(x, Mapping) else [x]


def batch_of(x: State) -> int:
    """How many examples a state holds."""
    return len(leaves(x)[0])


def moved(x: Tensor, device: torch.device | str) -> Tensor:
    """``x`` on a device; to CUDA from pinned memory, so that nobody waits for the copy."""
    if torch.device(device).type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def as_time(t: float | Tensor, batch: int) -> Time:
    """``t`` as one float64 CPU time per example; a scalar is expanded, not copied."""
    t = torch.as_tensor(t, dtype=torch.float64, device="cpu")
    return t.expand(batch) if t.ndim == 0 else t
