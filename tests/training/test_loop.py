"""The loop: stopped anywhere and resumed, a run is the uninterrupted one, bit for bit."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kuosan.core.schedules import Cosine
from kuosan.denoisers.network import NetworkDenoiser
from kuosan.errors import UserError
from kuosan.networks import build_network
from kuosan.processes.gaussian import GaussianProcess
from kuosan.training import checkpoint, loop
from kuosan.training.interrupt import Interrupted
from kuosan.training.objective import Denoising
from kuosan.training.timing import TIMINGS
from tests.training.small import CLASSES, Points, state, training, walk

STEPS = 24


def bits(folder: Path) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in checkpoint.load(folder)[0].items()}


def whole(folder: Path, **leaves: Any) -> dict[str, Any]:
    """The state at the end of a run that nothing interrupted, and its best checkpoint."""
    run = training(folder, **leaves)
    walk(run)
    return state(run) | {"best": bits(folder / "best")}


@pytest.mark.parametrize("save_every_step", [True, False])
def test_resumed_at_any_step_a_run_ends_with_the_same_bits(tmp_path: Path, save_every_step: bool) -> None:
    wanted = whole(tmp_path / "whole")
    for stop in range(1, STEPS + 1):
        folder = tmp_path / str(stop)
        walk(training(folder, save_seconds=0.0 if save_every_step else 1e9), stop)
        again = training(folder)
        assert again.resume()
        assert again.count.step == (stop - 1 if save_every_step else 0)
        walk(again)
        assert state(again) | {"best": bits(folder / "best")} == wanted


def test_resumed_again_and_again_a_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    wanted, rng = whole(tmp_path / "whole"), random.Random(0)
    lives = 0
    while True:
        run = training(tmp_path / "run", save_seconds=rng.choice([0.0, 0.002]))
        run.resume()
        if run.count.finished:
            break
        walk(run, run.count.step + rng.randint(1, 6))
        lives += 1
    assert lives > 5
    assert state(run) | {"best": bits(tmp_path / "run" / "best")} == wanted


def test_a_transformer_with_dropout_resumes_to_the_bit(tmp_path: Path) -> None:
    spec = {"kind": "transformer", "channels": 1, "sides": [8, 8], "patch": 2, "dim": 32, "depth": 1}
    spec |= {"heads": 1, "conditions": {"class": CLASSES}, "dropout": 0.2}

    class Pictures(Points):
        def batch(
            self, index: torch.Tensor, seeds: object = None
        ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            x, cond = super().batch(index)
            return x.repeat_interleave(16, 1).reshape(-1, 1, 8, 8), cond

    def fresh(folder: Path, **leaves: Any) -> Any:
        network = build_network(spec, torch.Generator().manual_seed(1))
        denoiser = NetworkDenoiser(GaussianProcess(Cosine()), network)
        return training(folder, denoiser=denoiser, train=Pictures(37), val=Pictures(9, 1), **leaves)

    run = fresh(tmp_path / "whole")
    walk(run)
    for stop in (5, 13):
        walk(fresh(tmp_path / str(stop), save_seconds=0.0), stop)
        again = fresh(tmp_path / str(stop))
        again.resume()
        walk(again)
        assert state(again) == state(run)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop", [1, 11, STEPS])
def test_a_signal_saves_and_leaves_and_nothing_is_lost(
    tmp_path: Path, signum: signal.Signals, stop: int
) -> None:
    wanted = whole(tmp_path / "whole")
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    run = training(tmp_path / "run")
    with pytest.raises(Interrupted) as told:
        for event in run.run():
            if event.step == stop:
                os.kill(os.getpid(), signum)
    assert told.value.signum == signum
    assert {s: signal.getsignal(s) for s in handlers} == handlers
    again = training(tmp_path / "run")
    again.resume()
    assert again.count.step == stop and again.count.finished == (stop == STEPS)
    walk(again)
    assert state(again) | {"best": bits(tmp_path / "run" / "best")} == wanted


def test_the_course_depends_on_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    one = whole(tmp_path / "1")
    torch.randn(3, generator=torch.Generator())  # whatever else the process does
    assert whole(tmp_path / "2") == one
    other = whole(tmp_path / "3", seed=1)
    assert other["model.network.inner"] != one["model.network.inner"]


def test_validation_asks_the_same_question_each_time(tmp_path: Path) -> None:
    run = training(tmp_path, validations=6)
    events = walk(run)
    asked = [e.step for e in events if e.validation]
    assert asked == [4, 8, 12, 16, 20, 24]
    last = [e.validation for e in events if e.validation][-1]
    assert last.n == 9 and len(last.levels) == 8
    assert last.loss == pytest.approx(sum(loss for _, loss in last.levels) / 8, rel=1e-9)
    assert [level for level, _ in last.levels] == sorted((level for level, _ in last.levels), reverse=True)
    best = min((e.validation.loss, e.step) for e in events if e.validation)
    assert (run.count.best_loss, run.count.best_step) == best
    assert [e.step for e in events if e.best][-1] == best[1]
    _, kept = checkpoint.load(tmp_path / "best")
    assert kept["counters"]["step"] == best[1]


def test_the_model_learns(tmp_path: Path) -> None:
    """x ~ N(1, 0.3²) on the cosine schedule: the least loss of v is the mean of 0.09/(0.09 α² + σ²), 0.3."""
    run = training(tmp_path, steps=600, validations=3)
    found = [e.validation.loss for e in walk(run) if e.validation]
    assert found[-1] < 0.45 < found[0] * 1.5
    assert found[-1] > 0.2


def test_training_stops_when_the_held_out_loss_turns_and_says_so(tmp_path: Path) -> None:
    leaves = {"val": Points(9, 1, mean=-3.0), "validations": 12, "patience": 2, "steps": 240, "lr": 3e-2}
    run = training(tmp_path / "whole", **leaves)
    events = walk(run)
    assert run.count.finished and events[-1].step < 240 and events[-1].validation
    assert "stopped early" in run.count.events[-1] and f"step {run.count.best_step}" in run.count.events[-1]
    assert run.count.worse == 2
    wanted = state(run)
    for stop in (events[-1].step - 1, events[-1].step):  # also when the decision itself is lost
        walk(training(tmp_path / str(stop), save_seconds=0.0, **leaves), stop)
        again = training(tmp_path / str(stop), **leaves)
        again.resume()
        walk(again)
        assert state(again) == wanted
    patient = training(tmp_path / "patient", **(leaves | {"patience": 0}))
    assert walk(patient)[-1].step == 240


def test_without_held_out_items_a_run_still_ends(tmp_path: Path) -> None:
    run = training(tmp_path, val=Points(0))
    assert all(e.validation is None for e in walk(run)) and run.count.finished
    assert not (tmp_path / "best").exists()


def test_a_budget_of_time_counts_over_all_parts_and_not_the_time_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 0.01)  # each look at it takes ten milliseconds
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    leaves = {"steps": None, "seconds": 3.0, "validations": 2}
    part = walk(training(tmp_path, save_seconds=0.0, **leaves), 20)
    clock = itertools.count(1e6, 0.01)
    again = training(tmp_path, **leaves)
    again.resume()
    saved = again.count.seconds
    assert again.count.step == 19 and 0 < saved < part[-1].seconds < 1.5
    rest = walk(again)
    assert rest[0].step == 20 and saved < rest[0].seconds < saved + 0.1
    assert all(e.progress == min(1.0, e.seconds / 3.0) for e in rest)
    assert 3.0 <= again.count.seconds < 3.1


@pytest.mark.parametrize("other", ["recipe", "data"])
def test_another_recipe_or_other_data_is_refused_and_nothing_is_lost(tmp_path: Path, other: str) -> None:
    identity = {"recipe": "a", "data": "b"}
    walk(training(tmp_path, identity=identity))
    before = bits(tmp_path / "last")
    with pytest.raises(UserError, match=f"another {other}"):
        training(tmp_path, identity=identity | {other: "c"}).resume()
    assert bits(tmp_path / "last") == before
    assert training(tmp_path, identity=identity).resume()


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    walk(training(tmp_path))
    path = tmp_path / "last" / "state.json"
    tree = json.loads(path.read_text(encoding="utf-8"))
    tree.pop("seal")
    tree["format"] += 1
    path.write_text(json.dumps({**tree, "seal": checkpoint._seal(tree)}), encoding="utf-8")
    with pytest.raises(UserError, match="format 2.*reads format 1"):
        training(tmp_path).resume()


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    walk(training(tmp_path))
    again = training(tmp_path)
    again.resume()
    assert walk(again) == []


def test_the_rates_that_are_told_are_the_settings(tmp_path: Path) -> None:
    run = training(tmp_path, objective=Denoising("min_snr", TIMINGS["lognormal"]))
    for event in walk(run):
        step = event.step - 1
        assert event.lr == run.settings.rate(step / STEPS, step)
    assert run.optimizers.parts[0].param_groups[0]["lr"] == event.lr
