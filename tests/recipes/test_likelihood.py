"""A run's likelihood: what training leaves for it, and of whose items it can be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kuosan
from kuosan.core.random import Seeds
from kuosan.denoisers.calibrated import Calibrated
from kuosan.errors import UserError
from kuosan.evaluation.likelihood import Effort
from kuosan.recipes.evaluate import data_of, with_likelihood
from kuosan.recipes.likelihood import Known, keep_variances, likelihood
from kuosan.recipes.run import VARIANCES

SMALL = Effort(n=16, train=8, steps=(3,), step_items=8, flow=4, fitted=16, planned=8, count=4)


def last_of(run: kuosan.Run, solver: str) -> torch.Tensor:
    for step in run.walk(Seeds.of(0, 4), run.conditions(0, range(4)), steps=5, solver_name=solver):
        x = step.x
    return x


def test_training_leaves_variances_and_ancestral_sampling_uses_them(
    copied: Callable[[], kuosan.Run],
) -> None:
    run = copied()
    assert (run.path / VARIANCES).is_file()
    assert isinstance(run.calibrated(run.denoiser), Calibrated)
    with torch.no_grad():
        with_them, deterministic = last_of(run, "ancestral"), last_of(run, "deis")
        (run.path / VARIANCES).unlink()
        bare = kuosan.load(run.path)
        assert bare.variances is None and bare.calibrated(bare.denoiser) is bare.denoiser
        assert not torch.equal(with_them, last_of(bare, "ancestral"))
        assert torch.equal(deterministic, last_of(bare, "deis"))
        keep_variances(bare, data_of(bare), 64, Effort.short().levels)
        assert torch.allclose(with_them, last_of(bare, "ancestral"), atol=1e-5)


def test_a_likelihood_is_the_same_again_and_leaves_lines(run: kuosan.Run, data: Path, tmp_path: Path) -> None:
    held = replace(data_of(run), val=data_of(run).train)  # ten times as many
    first = likelihood(run, held, SMALL, out=tmp_path)
    again = likelihood(run, held, SMALL)
    assert {k: m.value for k, m in first.metrics.items()} == {k: m.value for k, m in again.metrics.items()}
    lines = (tmp_path / "likelihood.csv").read_text().splitlines()
    assert lines[0].startswith("item,bound,") and len(lines) == 1 + SMALL.n
    assert {line.split(",")[0] for line in lines[1:]} <= set(held.val.names)


def test_conditions_that_a_model_does_not_know_are_left_out(run: kuosan.Run) -> None:
    split = data_of(run).train
    index = torch.arange(3)
    x, cond = Known(split, ()).batch(index)
    assert cond == {} and torch.equal(x, split.batch(index)[0]) and len(Known(split, ())) == len(split)
    assert set(Known(split, run.facts.columns).batch(index)[1]) == {"class"}


def test_too_few_items_are_refused_and_a_reason_is_kept(run: kuosan.Run) -> None:
    found = data_of(run)
    few = replace(found, val=replace(found.val, names=found.val.names[:3]))
    with pytest.raises(UserError, match="3 held-out items"):
        likelihood(run, few, SMALL)
    kept = with_likelihood({"metrics": {}, "left_out": {"a": "b"}}, "no time")
    assert kept == {"metrics": {}, "left_out": {"a": "b", "likelihood": "no time"}}
