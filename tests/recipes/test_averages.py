"""A run's averages after the fact, its guide, and the watch over what it learns by heart."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import kuosan
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.evaluation.nearness import BEYOND, Nearness, compared, crowding, usual
from kuosan.guidance import Autoguided
from kuosan.recipes import average, watch
from kuosan.recipes.average import GUIDE, choose, chosen
from kuosan.recipes.report_average import average_section
from kuosan.recipes.watch import MARK, Watch
from kuosan.training import checkpoint
from kuosan.training.averages import TRACKED
from tests.recipes import small


def contents(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


# -- which average ------------------------------------------------------------------------------------------


def test_the_length_with_the_least_held_out_loss_is_chosen_and_shown(run: kuosan.Run) -> None:
    found = chosen(run.path)
    assert found is not None
    tried = found["tried"]
    assert [t.length for t in tried] == sorted(average.LENGTHS)
    assert found["chosen"] == min(tried, key=lambda t: t.loss).length
    least = min(t.loss for t in tried)
    for t in tried:
        assert t.more == pytest.approx(t.loss - least, abs=1e-12) and t.n == tried[0].n
        assert t.more_stderr < t.stderr or t.more == 0, "paired errors are far smaller"
    section = average_section(run.path)
    assert section and f"length {found['chosen']:g}" in section.lead[0]
    assert 'id="average"' in (run.path / "report.html").read_text(encoding="utf-8")


def test_little_time_asks_few_lengths_and_none_asks_the_first(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = small.session(data, tmp_path / "run")
    for _ in one.steps():
        pass
    now = iter(range(1000))
    monkeypatch.setattr(average, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    for seconds, count in ((0.0, 1), (6.0, 3)):  # each look at the clock is a second, a length takes two
        choose(one, seconds)
        found = chosen(one.run.path)
        assert found and {t.length for t in found["tried"]} == set(average.LENGTHS[:count])


def test_another_length_is_another_run_in_the_same_folder(copied: Callable[[], kuosan.Run]) -> None:
    run = copied()
    before = contents(run.path)
    found = chosen(run.path)
    assert found
    same = run.averaged(found["chosen"])
    assert torch.equal(same.sample(3, seed=5).x, run.sample(3, seed=5).x)
    tensors, _ = checkpoint.load(run.path / "checkpoints" / "best")
    for std, prefix in zip(TRACKED, ("average.", "average-0.05."), strict=True):
        state = run.averaged(std).model.state_dict()
        assert all(torch.equal(v, tensors[prefix + k]) for k, v in state.items())
    long = run.averaged(0.2)
    assert long.sampler()["ema"] == 0.2 and not torch.equal(long.sample(3).x, run.sample(3).x)
    assert contents(run.path) == before


@pytest.mark.parametrize("length", [0.0, 0.28, 1.0])
def test_an_impossible_length_is_refused(run: kuosan.Run, length: float) -> None:
    with pytest.raises(UserError, match="from 0.01 to below 0.28"):
        run.averaged(length)


def test_a_length_that_was_given_is_the_only_one(data: Path, tmp_path: Path) -> None:
    one = small.session(data, tmp_path / "run", training__ema=0.05, budget="10steps")
    for _ in one.steps():
        pass
    one.write_weights("best")
    choose(one, None)
    run = kuosan.load(tmp_path / "run")
    tensors, _ = checkpoint.load(run.path / "checkpoints" / "best")
    assert all(torch.equal(v, tensors[f"average.{k}"]) for k, v in run.model.state_dict().items())
    assert chosen(run.path) is None and average_section(run.path) is None
    with pytest.raises(UserError, match=r"training.ema=auto"):
        run.averaged(0.1)
    with pytest.raises(UserError, match=r"training.ema=auto"):
        run.autoguided(2.0)


# -- the guide ----------------------------------------------------------------------------------------------


def test_the_guide_is_an_early_average_and_weight_one_is_no_guidance(run: kuosan.Run) -> None:
    kept = sorted((run.path / "checkpoints" / "averages").iterdir())
    found = chosen(run.path)
    assert found
    early = min(kept, key=lambda p: abs(int(p.name[:9]) - found["step"] / 8))
    weights = checkpoint.load_weights(run.path / GUIDE)
    tensors = checkpoint.load_weights(early)
    assert all(torch.equal(v, tensors[f"{TRACKED[0]:g}/{k}"]) for k, v in weights.items())
    assert torch.equal(run.autoguided(1.0).sample(3, seed=2).x, run.sample(3, seed=2).x)


def test_an_autoguided_run_walks_the_line_with_conditions_or_without(run: kuosan.Run) -> None:
    guided = run.autoguided(2.0)
    x, t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((4,), 0.5).double()
    inner = guided.unguided
    assert isinstance(inner, Autoguided)
    for cond in ({}, {"class": torch.tensor([0, 1, 2, 3])}):
        a, b = run.model(x, t, **cond).mean, inner.guide(x, t, **cond).mean
        assert torch.allclose(guided.guided(1.0)(x, t, **cond).mean, b + 2 * (a - b), atol=1e-5)
        assert float((a - b).abs().max()) > 1e-3
    assert guided.sampler()["autoguide"] == 2.0
    assert not torch.equal(guided.sample(3).x, run.sample(3).x)
    both = run.averaged(0.2).autoguided(2.0)
    assert both.sampler()["ema"] == 0.2 and both.sampler()["autoguide"] == 2.0
    assert both.unguided.denoiser is both.model  # type: ignore[union-attr]


# -- the watch ----------------------------------------------------------------------------------------------


def normal(n: int, seed: int, d: int = 12) -> Tensor:
    return Seeds.of(seed, n).normal(torch.empty(n, d))


def test_copies_are_nearer_than_real_items_and_honest_or_blurred_ones_are_not() -> None:
    training, heldout = normal(600, 0), normal(200, 1)
    real = usual(training, heldout)
    assert torch.equal(real, crowding(heldout, training))

    def nearer(samples: Tensor) -> bool:
        return compared(crowding(samples, training), real).nearer

    assert not nearer(normal(64, 2))
    assert not nearer(0.3 * normal(64, 3)), "what is blurred is near to everything"
    copies = torch.cat([training[:16] + 0.01 * normal(16, 4), normal(48, 5)])
    assert nearer(copies)
    assert float(crowding(training[:3], training).max()) == pytest.approx(0, abs=1e-3)


def test_the_ratio_is_that_of_the_nearest_to_the_nearest_fifty() -> None:
    training = torch.arange(1.0, 101.0)[:, None]
    assert float(crowding(torch.zeros(1, 1), training)) == pytest.approx(1 / 25.5)
    few = crowding(training[:5], training[:5], exclude_self=True)
    assert few.tolist() == pytest.approx([1 / 2.5, 1 / 1.75, 1 / 1.5, 1 / 1.75, 1 / 2.5])


def test_with_few_held_out_items_training_items_tell_what_is_usual() -> None:
    training = normal(80, 6)
    assert torch.equal(usual(training, normal(4, 7)), crowding(training, training, exclude_self=True))


def test_false_alarms_are_rare() -> None:
    training, alarms = normal(400, 8), 0
    real = usual(training, normal(100, 9))
    for seed in range(60):
        alarms += compared(crowding(normal(64, 100 + seed), training), real).nearer
    assert alarms <= 2
    far = Nearness(0.5, 0.01, 64, 0.5 + 1.01 * BEYOND * 2**0.5 * 0.01, 0.01, 64)
    assert far.nearer and not replace(far, value=0.501).nearer
    assert Nearness.of(far.to_json()) == far


def watched(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, draw: Any = None) -> Any:
    monkeypatch.setattr(watch, "SHARE", 50.0)
    one = small.session(data, out, budget="10steps")
    if draw:
        one.watch = Watch(one.run, one.training, draw)
    for _ in one.steps():
        pass
    return one


def test_training_is_watched_and_says_when_samples_are_copies(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = watched(data, tmp_path / "honest", monkeypatch)
    rows = [json.loads(line) for line in (tmp_path / "honest" / "metrics.jsonl").read_text().splitlines()]
    looks = [row for row in rows if "nearness" in row]
    assert [row["step"] for row in looks] == [row["step"] for row in rows if "val_loss" in row]
    assert all(row["nearness_n"] >= watch.FEW and row["nearness_real"] > 0 for row in looks)
    assert not any(MARK in e for e in honest.training.count.events)

    def copies(seeds: Seeds, cond: Any) -> Tensor:
        x, _ = honest.data.train.batch(torch.arange(len(seeds)) % len(honest.data.train))
        return x

    found = watched(data, tmp_path / "copies", monkeypatch, copies)
    assert sum(MARK in e for e in found.training.count.events) == 1, "said once, and kept"
    _, state = checkpoint.load(tmp_path / "copies" / "checkpoints" / "last")
    assert state["counters"]["events"] == found.training.count.events


def test_what_a_look_may_cost_is_a_share_of_training(run: kuosan.Run) -> None:
    count = SimpleNamespace(step=100, validations=2, events=[])
    training: Any = SimpleNamespace(
        count=count, train=range(100), val=range(9), settings=SimpleNamespace(batch=128), sharded=False
    )
    one = Watch(run, training, lambda seeds, cond: torch.zeros(1))
    most = 0.03 * 3 * 128 * 50 / 10
    assert most / 2 < one.samples() == 32 <= most, "a power of two, so that looks can be compared"
    count.step = 1000
    assert one.samples() == watch.MANY
    count.step = 10
    assert one.samples() == 0 and one.look() == {}
