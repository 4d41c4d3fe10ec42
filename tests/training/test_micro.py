"""Micro-batches: the same gradient whatever the split, and a split that gets finer until it fits."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kuosan.core.curves import LinearSurvival
from kuosan.core.schedules import Cosine, Learned
from kuosan.denoisers.base import Denoiser
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.denoisers.tokens import TokenDenoiser
from kuosan.errors import UserError
from kuosan.networks import build_network
from kuosan.networks.tokens import TokenTransformer
from kuosan.processes.blocks import BlockMasked
from kuosan.processes.discrete import Masked
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training.gradients import parts_of
from kuosan.training.loop import Training
from kuosan.training.objective import Denoising, Objective
from kuosan.training.timing import EntropyTiming
from kuosan.training.tokens import MaskedTokens, NextToken, TokenBlocks
from tests.training.small import CLASSES, Net, Points, state, training, walk

BATCH = 12


class Pictures(Points):
    """The same points as pictures of 8×8."""

    def batch(self, index: Tensor, seeds: object = None) -> tuple[Tensor, dict[str, Tensor]]:
        x, cond = super().batch(index)
        return x.repeat_interleave(16, 1).reshape(-1, 1, 8, 8), cond


class Texts(Points):
    """Texts of eight tokens."""

    def batch(self, index: Tensor, seeds: object = None) -> tuple[Tensor, dict[str, Tensor]]:
        return (self.x[index].repeat(1, 2) * 3).long().clamp(0, 4), {}


def seeded(module: nn.Module) -> Any:
    """With weights that leave no gradient at zero."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return module


def pictures(kind: str) -> Denoiser:
    size = {"channels": 1, "sides": [8, 8], "conditions": {"class": CLASSES}, "dropout": 0.2}
    own = {
        "transformer": {"patch": 2, "dim": 32, "depth": 2, "heads": 1},
        "unet": {"base": 8, "mults": (1, 2), "blocks": 1, "attention": (1,)},
    }[kind]
    net = build_network({"kind": kind, **size, **own}, torch.Generator().manual_seed(1))
    return NetworkDenoiser(GaussianProcess(Cosine()), seeded(net))


def tokens(process: Any, block: int = 0) -> Denoiser:
    net = TokenTransformer(
        5, dim=32, depth=2, heads=2, block=block, dropout=0.2, generator=torch.Generator().manual_seed(0)
    )
    return TokenDenoiser(process, seeded(net))


def learned() -> Denoiser:
    return NetworkDenoiser(GaussianProcess(Learned(pieces=4)), Net())


CASES: dict[str, tuple[Any, Objective, Any]] = {
    "transformer with dropout": (lambda: pictures("transformer"), Denoising("min_snr"), Pictures(37)),
    "unet with dropout": (lambda: pictures("unet"), Denoising(), Pictures(37)),
    "learned schedule": (learned, Denoising("sigmoid"), Points(37)),
    "learned density of times": (
        lambda: NetworkDenoiser(GaussianProcess(Cosine()), Net()),
        Denoising("edm", EntropyTiming()),
        Points(37),
    ),
    "masked tokens": (lambda: tokens(Masked(5, LinearSurvival())), MaskedTokens(), Texts(37)),
    "blocks": (lambda: tokens(BlockMasked(5, LinearSurvival(), 2), 2), TokenBlocks(), Texts(37)),
    "next token": (lambda: tokens(BlockMasked(5, LinearSurvival(), 1), 1), NextToken(), Texts(37)),
}


def gradients(folder: Path, name: str, micro: int | None) -> tuple[Training, Tensor, list[Tensor]]:
    make, objective, items = CASES[name]
    run = training(
        folder, denoiser=make(), objective=objective, train=items, val=[], batch=BATCH, micro=micro, drop=0.3
    )
    run.denoiser.train()
    found = run._found(0.0)
    if found.errors:
        run.objective = run.objective.timed(run.objective.timing.after(*found.errors))
    return run, found.losses, [p.grad for p in run.parameters if p.grad is not None]


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_does_not_depend_on_the_split(tmp_path: Path, name: str) -> None:
    run, losses, wanted = gradients(tmp_path, name, None)
    assert len(losses) == BATCH and any(float(g.norm()) > 0 for g in wanted)
    for micro in (1, 5):
        other, found, got = gradients(tmp_path, name, micro)
        assert torch.allclose(found, losses, rtol=1e-5, atol=1e-7)
        off = sum(float((a - b).square().sum()) for a, b in zip(got, wanted, strict=True))
        assert off <= (1e-5) ** 2 * sum(float(b.square().sum()) for b in wanted)
        for key, value in run.objective.timing.state().items():
            assert torch.allclose(other.objective.timing.state()[key], value, rtol=1e-5)


@pytest.mark.parametrize("count, most", [(1, 1), (7, 3), (12, 5), (12, 12), (12, 99)])
def test_parts_are_few_equal_and_complete(count: int, most: int) -> None:
    parts = parts_of(count, most)
    sizes = [part.stop - part.start for part in parts]
    assert [i for part in parts for i in range(count)[part]] == list(range(count))
    assert max(sizes) <= most and max(sizes) - min(sizes) <= 1 and len(parts) == -(-count // most)


@dataclass
class Small:
    """A machine on which so many examples fit."""

    fits: int
    how: type[Exception] = torch.OutOfMemoryError
    text: str = "CUDA out of memory"
    asked: list[int] = field(default_factory=list)


class Tight(Net):
    def __init__(self, machine: Small):
        super().__init__()
        self.machine = machine

    def forward(self, x: Tensor, label: Tensor, **cond: Tensor) -> Tensor:
        if self.training:
            self.machine.asked.append(len(x))
            if len(x) > self.machine.fits:
                raise self.machine.how(self.machine.text)
        return super().forward(x, label, **cond)


def tight(folder: Path, machine: Small, **leaves: Any) -> Training:
    denoiser = NetworkDenoiser(GaussianProcess(Cosine()), Tight(machine))
    return training(folder, denoiser=denoiser, **leaves)


@pytest.mark.parametrize(
    "how, text",
    [
        (torch.OutOfMemoryError, "CUDA out of memory"),
        (
            RuntimeError,
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried",
        ),
        (MemoryError, ""),
    ],
)
def test_what_does_not_fit_is_halved_and_the_course_stays(
    tmp_path: Path, how: type[Exception], text: str
) -> None:
    wanted = walk(training(tmp_path / "whole", steps=6))
    machine = Small(3, how, text)
    run = tight(tmp_path / "tight", machine, steps=6)
    events = walk(run)
    assert machine.asked[:7] == [8, 4, 2, 2, 2, 2, 2] and run.count.micro == 2
    assert [e.step for e in events] == [e.step for e in wanted]
    assert [e.loss for e in events] == pytest.approx([e.loss for e in wanted], rel=1e-4)
    first = events[0]
    assert (first.loss, first.grad_norm) == pytest.approx((wanted[0].loss, wanted[0].grad_norm), rel=1e-5)
    assert len(run.count.events) == 2 and re.match("step 1: memory.*micro-batches of 4", run.count.events[0])
    assert (run.count.skipped, run.count.returns) == (0, 0)


def test_a_run_that_was_killed_goes_on_with_the_micro_batches_that_fit(tmp_path: Path) -> None:
    whole = tight(tmp_path / "whole", Small(3), steps=8)
    walk(whole)
    for stop in (1, 4):
        walk(tight(tmp_path / str(stop), Small(3), save_seconds=0.0, steps=8), stop)
        machine = Small(3)
        again = tight(tmp_path / str(stop), machine, steps=8)
        again.resume()
        walk(again)
        assert state(again) == state(whole)
        assert stop == 1 or max(machine.asked) == 2


def test_where_not_even_one_item_fits_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="single item.*max_side") as told:
        walk(tight(tmp_path, Small(0)))
    assert "\n" not in str(told.value)


def test_other_errors_are_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shape"):
        walk(tight(tmp_path, Small(3, RuntimeError, "the shape is wrong")))


class Killed(BaseException):
    """What no handler sees."""


class Doomed(Tight):
    """Is killed at its ``n``-th call."""

    def __init__(self, n: int):
        super().__init__(Small(99))
        self.n = n

    def forward(self, x: Tensor, label: Tensor, **cond: Tensor) -> Tensor:
        if self.training and len(self.machine.asked) == self.n:
            raise Killed
        return super().forward(x, label, **cond)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_killed_between_micro_batches_a_run_ends_with_the_same_bits(tmp_path: Path, precision: str) -> None:
    def fresh(folder: Path, n: int = 9999) -> Training:
        denoiser = NetworkDenoiser(GaussianProcess(Cosine()), Doomed(n))
        leaves = {"micro": 3, "precision": precision, "save_seconds": 0.0, "steps": 8}
        return training(folder, denoiser=denoiser, **leaves)

    whole = fresh(tmp_path / "whole")
    walk(whole)
    with pytest.raises(Killed):
        walk(fresh(tmp_path / "killed", 3 * 5 + 2))  # two of the sixth step's three are done
    again = fresh(tmp_path / "killed")
    assert again.resume() and again.count.step == 5
    walk(again)
    assert state(again) == state(whole)
