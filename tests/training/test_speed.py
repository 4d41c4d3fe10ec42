"""Laws of the ways to run a network: which is chosen, that they compute the same, and that runs survive them."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kuosan.core.random import Seeds
from kuosan.core.schedules import Cosine
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.networks import build_network
from kuosan.networks.attention import Wide, attention
from kuosan.networks.dropout import Dropout
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training.loop import Training
from kuosan.training.objective import Denoising
from kuosan.training.settings import Settings, casting, rounding
from kuosan.training.speed import (
    BOUND,
    DROPS,
    FEW,
    TIE,
    Trial,
    Way,
    arrange,
    candidates,
    cannot_compile,
    choose,
    measure,
)
from tests.training.small import state, training, walk

CPU = torch.device("cpu")
PARTS = ("float32", "bfloat16"), ("contiguous", "channels_last"), (False, True)
WAYS = [Way(*parts) for parts in itertools.product(*PARTS)]  # type: ignore[arg-type]


class Convolutions(nn.Module):
    """A small network over pictures of 8×8."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        self.first = nn.Parameter(0.2 * torch.randn(12, 3, 3, 3, generator=g))
        self.last = nn.Parameter(0.2 * torch.randn(3, 12, 3, 3, generator=g))

    def forward(self, x: Tensor, label: Tensor, **cond: Tensor) -> Tensor:
        h = F.conv2d(x, self.first, padding=1) + (label / 500 - 1)[:, None, None, None]
        return F.conv2d(F.silu(h), self.last, padding=1)


class Pictures:
    def __init__(self, count: int):
        self.x = Seeds.of(0, count).normal(torch.empty(count, 3, 8, 8))

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, seeds: object = None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.x[index], {}


def convolving() -> NetworkDenoiser:
    return NetworkDenoiser(GaussianProcess(Cosine()), Convolutions())


def run_of(folder: Path, **settings: Any) -> Training:
    leaves = {"batch": 8, "lr": 1e-2, "steps": 12, "validations": 2, "save_seconds": 1e9}
    return Training(
        convolving(), Denoising(), Pictures(20), Pictures(4), Settings(**(leaves | settings)), folder
    )


# -- the choice ---------------------------------------------------------------------------------------------

trial = st.builds(
    Trial,
    st.sampled_from(WAYS),
    st.floats(0.8, 1.2),
    st.one_of(st.floats(0, 2 * BOUND), st.just(float("nan"))),
)


@given(st.floats(0.8, 1.2), st.lists(trial, max_size=8))
def test_the_chosen_way_is_the_plainest_of_the_fastest_whose_gradient_is_right(
    seconds: float, others: list[Trial]
) -> None:
    trials = [Trial(Way(), seconds, 0.0), *others]
    best = choose(trials)
    able = [trials[0], *(t for t in others if t.error <= BOUND)]
    assert best in able
    fastest = min(t.seconds for t in able)
    assert best.seconds <= (1 + TIE) * fastest
    for t in able:
        if t.seconds < best.seconds / (1 + TIE):
            raise AssertionError("a faster one was left")
        if t.way.extras < best.way.extras:
            assert t.seconds > (1 + TIE) * fastest
        if t.way.extras == best.way.extras:
            assert t.seconds >= best.seconds or t.seconds > (1 + TIE) * fastest


def test_a_tie_goes_to_the_plain_way_and_a_wrong_gradient_is_out_however_fast() -> None:
    plain = Trial(Way(), 1.0, 0.0)
    assert choose([plain, Trial(Way("bfloat16"), 0.98, 0.004)]).way == Way()
    assert choose([plain, Trial(Way("bfloat16"), 0.94, 0.004)]).way == Way("bfloat16")
    assert choose([plain, Trial(Way("bfloat16"), 0.50, 1.01 * BOUND)]).way == Way()
    both = Trial(Way("bfloat16", "channels_last"), 0.49, 0.004)
    assert choose([plain, Trial(Way("bfloat16"), 0.50, 0.004), both]).way == Way("bfloat16")


def test_only_what_a_device_and_a_network_have_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    flat, deep = nn.ParameterList([torch.zeros(2, 2)]), Convolutions()
    assert candidates(flat, CPU, False) == [Way()]
    assert candidates(flat, CPU, True) == [Way(), Way("bfloat16")]
    assert candidates(deep, CPU, False) == [Way(), Way(layout="channels_last")]
    assert {w.precision for w in candidates(deep, torch.device("cuda"), True)} == {
        "float32",
        "tf32",
        "bfloat16",
    }
    assert all(not w.compile for w in candidates(deep, CPU, True)) and len(candidates(deep, CPU, True)) == 4
    dropping = nn.ModuleList([Dropout(0.1)])
    assert cannot_compile(dropping, CPU) == cannot_compile(dropping, torch.device("cuda")) == DROPS
    assert "convolutions" in cannot_compile(nn.ModuleList([Convolutions() for _ in range(3)]), CPU)
    assert "mps" in cannot_compile(flat, torch.device("mps"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "compiler" in cannot_compile(flat, CPU)
    monkeypatch.setattr(shutil, "which", lambda name: name if name == "clang++" else None)
    assert cannot_compile(flat, CPU) == ""
    assert (
        cannot_compile(nn.ParameterList([torch.zeros(2, 2, 3, 3)] * FEW), CPU) == ""
    )  # behind a transformer
    deep.register_parameter("volume", nn.Parameter(torch.zeros(1, 1, 1, 1, 1)))
    assert candidates(deep, CPU, False) == [Way()]


# -- the same gradient --------------------------------------------------------------------------------------


def test_gradients_of_every_way_are_within_the_bound_and_the_plain_one_is_exact() -> None:
    denoiser, x = convolving(), Pictures(6).x
    before = {k: v.clone() for k, v in denoiser.state_dict().items()}

    def loss() -> Tensor:
        return Denoising()(denoiser, x, Seeds.of(1, 6)).mean()

    ways = candidates(denoiser.network, CPU, True)
    found = {t.way: t for t in measure(denoiser, loss, ways, CPU, seconds=0.0)}
    assert list(found) == ways and all(t.seconds > 0 for t in found.values())
    assert found[Way()].error == 0
    assert found[Way(layout="channels_last")].error < 1e-5
    assert 1e-4 < found[Way("bfloat16")].error < BOUND
    assert all(p.grad is None for p in denoiser.parameters())
    assert all(torch.equal(v, before[k]) for k, v in denoiser.state_dict().items())


def test_the_transformers_gradient_in_bfloat16_is_within_the_bound() -> None:
    spec = {
        "kind": "transformer",
        "channels": 1,
        "sides": [8, 8],
        "patch": 2,
        "dim": 64,
        "depth": 2,
        "heads": 2,
    }
    network = build_network(spec, torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=g))
    denoiser, x = NetworkDenoiser(GaussianProcess(Cosine()), network), torch.randn(8, 1, 8, 8, generator=g)
    found = measure(
        denoiser,
        lambda: Denoising()(denoiser, x, Seeds.of(1, 8)).mean(),
        [Way(), Way("bfloat16")],
        CPU,
        seconds=0.0,
    )
    assert 1e-4 < found[1].error < BOUND


def test_attention_stays_in_single_precision_on_a_processor() -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 5, 8, generator=g).bfloat16() for _ in range(3))
    with casting("bfloat16", CPU):
        out = attention(q, k, v, causal=True)
    assert out.dtype == torch.float32
    assert torch.equal(out, F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True))


def test_attention_of_diffusers_does_so_too() -> None:
    spec = {"kind": "unet", "channels": 1, "sides": [8, 8], "conditions": {}}
    spec |= {"base": 8, "mults": [1, 2], "blocks": 1, "attention": [1]}
    network, seen = build_network(spec, torch.Generator().manual_seed(0)), []
    layers = [m for m in network.modules() if isinstance(getattr(m, "processor", None), Wide)]
    assert len(layers) == 4

    def spy(layer: nn.Module, x: Tensor, *more: Any) -> Tensor:
        seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
        return x

    for layer in layers:
        layer.processor.inner = spy  # type: ignore[union-attr]
    x, label = torch.zeros(1, 1, 8, 8), torch.zeros(1)
    with casting("bfloat16", CPU):
        network(x, label)
    assert seen == 4 * [(torch.float32, False)]
    network(x, label)
    assert seen[4:] == 4 * [(torch.float32, False)]


def test_rounding_ends_with_the_step_even_if_that_fails() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError), rounding("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
        _ = 1 / 0
    assert torch.get_float32_matmul_precision() == before
    with rounding("bfloat16"):
        assert torch.get_float32_matmul_precision() == before


# -- runs ---------------------------------------------------------------------------------------------------


def test_a_layout_changes_strides_and_nothing_else(tmp_path: Path) -> None:
    plain, turned = convolving(), convolving()
    arrange(turned, "channels_last")
    assert turned.network.first.is_contiguous(memory_format=torch.channels_last)
    for (a, x), (b, y) in zip(plain.state_dict().items(), turned.state_dict().items(), strict=True):
        assert a == b and torch.equal(x, y)
    one, two = run_of(tmp_path / "a"), run_of(tmp_path / "b", layout="channels_last")
    for a, b in zip(walk(one), walk(two), strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-4)


@pytest.mark.parametrize(
    "settings", [{"layout": "channels_last"}, {"precision": "bfloat16", "layout": "channels_last"}]
)
def test_a_run_that_was_killed_goes_on_to_the_same_bits_in_any_layout(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    whole = run_of(tmp_path / "whole", **settings)
    walk(whole)
    walk(run_of(tmp_path / "cut", save_seconds=0.0, **settings), stop=7)
    again = run_of(tmp_path / "cut", **settings)
    assert again.resume() and again.count.step == 6
    for _, part, p in again.optimizers.states():
        assert all(v.stride() == p.stride() for v in part.state[p].values() if v.shape == p.shape)
    walk(again)
    assert state(again) == state(whole)


def test_a_compiled_run_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    plain, whole = training(tmp_path / "plain"), training(tmp_path / "whole", compile=True)
    for a, b in zip(walk(plain), walk(whole), strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-4)
    assert whole.count.events == [] and set(state(whole)) == set(state(plain))
    walk(training(tmp_path / "cut", compile=True, save_seconds=0.0), stop=11)
    again = training(tmp_path / "cut", compile=True)
    assert again.resume() and again.count.step == 10
    walk(again)
    assert state(again) == state(whole)


def test_a_network_that_cannot_be_compiled_runs_as_it_is_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def broken(*inputs: Any, **more: Any) -> Tensor:
        raise TorchDynamoException("no compiler was found")

    def no_compile(self: nn.Module, mode: str | None = None) -> None:
        self._compiled_call_impl = broken  # type: ignore[assignment]

    plain = training(tmp_path / "plain")
    walk(plain)
    monkeypatch.setattr(nn.Module, "compile", no_compile)
    run = training(tmp_path / "run", compile=True)
    walk(run)
    assert ["no compiler was found" in e for e in run.count.events] == [True]
    assert state(run) | {"events": []} == state(plain)


def test_what_is_not_compilings_fault_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compile(self: nn.Module, mode: str | None = None) -> None:
        self._compiled_call_impl = _fails  # type: ignore[assignment]

    monkeypatch.setattr(nn.Module, "compile", no_compile)
    with pytest.raises(ArithmeticError):
        walk(training(tmp_path, compile=True))


def _fails(*inputs: Any, **more: Any) -> Tensor:
    raise ArithmeticError
