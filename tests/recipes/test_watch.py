"""Cheap measures of a run in training: how far samples are from real items, and the best step by them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.modalities import ShapeForm, VoxelModality
from kuosan.recipes import watch
from kuosan.recipes.watch import Watch
from kuosan.training.progress import Counters
from kuosan.training.validation import Validation
from tests.recipes import small
from tests.training.small import training

SHAPE = (1, 4, 4)


class Rows:
    """States of a law of which samples can be drawn."""

    def __init__(self, n: int, seed: int):
        self.x = Seeds.of(seed, n).normal(torch.empty(n, *SHAPE))

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor, seeds: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.x[index], {}


def looking(best: str = "loss", shift: float = 0.0, discrete: bool = False, **more: Any) -> tuple[Watch, Any]:
    """A watch over a run whose samples are real ones, shifted."""
    recipe = SimpleNamespace(
        process=SimpleNamespace(discrete=discrete), sampling=SimpleNamespace(steps=10),
        distil=SimpleNamespace(steps=0), training=SimpleNamespace(best=best),
    )  # fmt: skip
    run: Any = SimpleNamespace(
        facts=SimpleNamespace(recipe=recipe), latent_shape=SHAPE, conditions=lambda seed, numbers: {},
        **{"modality": None, "codec": "states are latents", **more},
    )  # fmt: skip
    over: Any = SimpleNamespace(
        count=Counters(step=1000, validations=4), train=Rows(900, 1), val=Rows(200, 2), sharded=False, score=None,
        settings=SimpleNamespace(batch=64),
    )  # fmt: skip

    def draw(seeds: Seeds, cond: Mapping[str, Tensor]) -> Tensor:
        return seeds.normal(torch.empty(len(seeds), *SHAPE)) + shift

    return Watch(run, over, draw), over


@pytest.mark.parametrize("name", ["fd", "kd"])
def test_samples_of_the_data_s_law_are_at_the_floor_and_others_are_not(name: str) -> None:
    def beyond(shift: float) -> float:
        row = looking(shift=shift)[0].look()
        spread = (row[f"sample_{name}_stderr"] ** 2 + row[f"sample_{name}_floor_stderr"] ** 2) ** 0.5
        return (row[f"sample_{name}"] - row[f"sample_{name}_floor"]) / spread

    assert abs(beyond(0.0)) < 3 and beyond(0.5) > 5


def test_the_score_is_the_distance_above_the_floor_and_one_look_serves_log_and_score() -> None:
    one, over = looking("fd", shift=0.5)
    row, drawn = one.look(), []
    one.draw = lambda seeds, cond: drawn.append(1)  # type: ignore[assignment, func-returns-value]
    assert over.score() == row["sample_fd"] - row["sample_fd_floor"] and not drawn
    assert over.score() > looking("fd", shift=0.2)[1].score() > looking("fd")[1].score()
    over.count.step, over.count.validations = 100, 20
    assert over.score() is None, "a look that would cost too much is none"


def test_tokens_that_are_no_letters_are_watched_as_texts_are() -> None:
    """Of music, whose states decode to scores: passages of training are copies, others are not."""
    generator = torch.Generator().manual_seed(0)
    one, over = looking(discrete=True, modality=SimpleNamespace(name="music"))
    for items in (over.train, over.val):
        items.x = torch.randint(30, (len(items), 24), generator=generator)
    one.run.latent_shape = (24,)
    mine = torch.randint(30, (64, 24), generator=generator)
    assert not one.ask(mine).nearer and one.ask(over.train.x[:64]).nearer
    assert {"sample_fd", "sample_kd_floor"} <= set(one.distances(mine))


def test_voxels_are_watched_as_shapes_are() -> None:
    """By where cells are filled, not by the numbers of colours, in the order of states."""
    modality = VoxelModality(ShapeForm((4, 4, 4), 1.0, True, palette=((0, 0, 0), (255, 255, 255))))
    generator = torch.Generator().manual_seed(0)
    one, over = looking(discrete=True, modality=modality)
    for items in (over.train, over.val):
        items.x = torch.randint(3, (len(items), 64), generator=generator)
    one.run.latent_shape = (64,)
    mine = torch.randint(3, (64, 64), generator=generator)
    assert not one.ask(mine).nearer and one.ask(over.train.x[:64]).nearer
    assert one.distances(mine)["sample_fd"] < one.distances(torch.zeros_like(mine))["sample_fd"] / 2


def judged(loss: float) -> Validation:
    return Validation(loss, 0.1, 4, (), "", (loss,) * 4)


def test_the_best_step_is_that_of_the_least_score_once_there_is_one() -> None:
    count, kept = Counters(), []
    for step, (loss, score) in enumerate([(3.0, None), (2.0, 5.0), (1.0, 6.0), (0.5, None), (4.0, 4.0)], 1):
        count.step = step
        best, _ = count.judged(judged(loss), score)
        kept += [step] if best else []
    assert kept == [1, 2, 5] and count.best_step == 5
    assert count.best_loss == 0.5, "patience still goes by the least loss"


def test_the_change_is_that_of_pairs_since_the_least_loss() -> None:
    count = Counters()
    assert count.judged(judged(2.0))[1] is None
    assert count.judged(judged(1.5))[1] == (pytest.approx(-0.5), 0.0)
    assert count.judged(judged(1.75))[1] == (pytest.approx(0.25), 0.0)
    assert count.judged(judged(1.25))[1] == (pytest.approx(-0.25), 0.0)


def test_training_keeps_the_weights_of_the_best_score(tmp_path: Path) -> None:
    run, scores = training(tmp_path, validations=6), iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    run.score = lambda: next(scores)
    kept = [event.step for event in run.run() if event.best]
    assert len(kept) == 2 and run.count.best_step == kept[-1]
    assert run.resume("best") and run.count.step == kept[-1]


def test_a_run_may_ask_for_the_best_by_a_distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SHARE", 50.0)
    monkeypatch.setattr(watch, "FEWEST_ROWS", 4)  # as few are held out
    data = small.pictures(tmp_path / "data")
    one = small.session(data, tmp_path / "run", budget="10steps", training__best="fd")
    for _ in one.steps():
        pass
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    above = {row["step"]: row["sample_fd"] - row["sample_fd_floor"] for row in rows if "sample_fd" in row}
    assert len(above) >= 3 and one.training.count.best_step == min(above, key=lambda step: above[step])
    changes = [row for row in rows if "val_change" in row]
    assert len(changes) == len(above) - 1 and all(row["val_change_stderr"] > 0 for row in changes)
