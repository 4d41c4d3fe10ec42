"""How fast this machine is now: two seconds of training a small reference network.

A budget of time is a promise about the clock, and a machine may be slower than its kind, or shared with others.
So before a network is chosen for such a budget, the speed is measured, with all threads and with one: on a
processor that others use too, threads that wait for each other can be slower together than one alone. Then once more
in bfloat16, where there are units for it. (Which precision the chosen network is trained in is measured on that
network: see `ways`.)

What was true at the start may change while a run goes on, so `Threads` asks again from time to time.

A budget of steps needs no such promise, and is left alone: its run must not depend on the machine's mood.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch

from kuosan.networks import build_network
from kuosan.networks.choose import transformer_operations, transformer_speed
from kuosan.recipes.machine import has_bfloat16
from kuosan.training.settings import Precision, casting

_REFERENCE = {"patch": 2, "dim": 96, "depth": 3, "heads": 3}
_SIDE, _BATCH, _SECONDS = 8, 64, 0.6
_TRIAL = 5  # steps


@dataclass(frozen=True)
class Speed:
    """The thread count that trained fastest, and the speed with it, in the faster precision, over what the network
    choice predicts."""

    threads: int
    ratio: float


@cache
def most_threads() -> int:
    """The threads that this process was given, before any was taken from it here."""
    return torch.get_num_threads()


def calibrate(device: torch.device, precision: str = "float32") -> Speed:
    """Measure in the ``precision`` of the recipe, ``auto`` trying both, and leave the faster thread count set."""
    most = most_threads()
    if device.type != "cpu":
        return Speed(most, 1.0)
    spec = {
        "kind": "transformer",
        "channels": 1,
        "sides": [_SIDE, _SIDE],
        "conditions": {},
        "activation": "gelu",
        **_REFERENCE,
    }
    network = build_network({**spec, "dropout": 0.0}, torch.Generator().manual_seed(0))
    x = torch.zeros(_BATCH, 1, _SIDE, _SIDE)
    label = torch.linspace(0, 999, _BATCH)

    def rate(precision: Precision) -> float:
        """Samples per second."""

        def step() -> None:
            with casting(precision, device):
                loss = network(x, label).square().mean()
            loss.backward()

        step()  # the first call prepares memory and threads
        steps, started = 0, time.perf_counter()
        while steps < 3 or time.perf_counter() - started < _SECONDS:
            step()
            steps += 1
        return _BATCH * steps / (time.perf_counter() - started)

    first: Precision = "bfloat16" if precision == "bfloat16" else "float32"
    rates = {}
    for count in {most, 1}:
        torch.set_num_threads(count)
        rates[count] = rate(first)
    threads = max(rates, key=lambda n: (rates[n], n))
    torch.set_num_threads(threads)
    best = rates[threads]
    if precision == "auto" and has_bfloat16(device):
        best = max(best, rate("bfloat16"))
    predicted = transformer_speed("cpu", _REFERENCE["dim"]) / transformer_operations(
        (_SIDE // _REFERENCE["patch"]) ** 2, _REFERENCE["dim"], _REFERENCE["depth"]
    )
    return Speed(threads, best / predicted)


class Threads:
    """Keeps a training loop at the faster of one thread and all of them.

    Every ``every`` seconds a few steps are made with the other count; the loop stays there if they took less
    than 0.95 of the time of as many steps before.
    """

    def __init__(self, every: float = 20.0):
        self.most, self.every = most_threads(), every
        self._recent: list[float] = []
        self._trial: list[float] | None = None
        self._asked = time.monotonic()

    def after_step(self, seconds: float) -> None:
        """Tell that a step took so long."""
        if self.most < 2:
            return
        if self._trial is None:
            self._recent = [*self._recent, seconds][-_TRIAL:]
            if time.monotonic() - self._asked > self.every and len(self._recent) == _TRIAL:
                self._trial = []
                self._switch()
            return
        self._trial.append(seconds)
        if len(self._trial) <= _TRIAL:  # the first step of a trial, which wakes the threads, does not count
            return
        if sorted(self._trial[1:])[_TRIAL // 2] > 0.95 * sorted(self._recent)[_TRIAL // 2]:
            self._switch()
        self._trial, self._recent, self._asked = None, [], time.monotonic()

    def _switch(self) -> None:
        torch.set_num_threads(1 if torch.get_num_threads() > 1 else self.most)
