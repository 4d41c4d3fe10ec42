"""A session: begun, killed, gone on with, refused; and what it leaves in its folder."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import kuosan
from kuosan.errors import UserError
from kuosan.recipes import finish, opening, pace, session
from kuosan.recipes.calibrate import Speed
from kuosan.recipes.opening import lock, prepare, reopen
from kuosan.recipes.schema import Recipe
from kuosan.recipes.session import Session
from kuosan.training import checkpoint
from tests.recipes import small


def stopped(data: Path, out: Path, step: int, **leaves: Any) -> Session:
    """A session that saved after every step and was killed in step ``step`` + 1."""
    one = small.session(data, out, training__save_seconds=0.0, **leaves)
    for event in one.steps():
        if event.step > step:
            break
    return one


def tensors(path: Path) -> dict[str, bytes]:
    found = checkpoint.load(path / "checkpoints" / "last")[0]
    return {k: v.numpy().tobytes() for k, v in found.items()}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def ticks(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without what a clock or the machine tells."""
    clocks = {"seconds", "items_per_second", "memory_mib"}
    return [{k: v for k, v in row.items() if k not in clocks} for row in rows(path)]


def contents(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


# -- what a run leaves --------------------------------------------------------------------------------------


def test_a_run_leaves_all_that_the_contract_names(run: kuosan.Run) -> None:
    for name in (
        "recipe.yaml",
        "model.safetensors",
        "metrics.jsonl",
        "report.html",
        "README.md",
        "summary.json",
    ):
        assert (run.path / name).stat().st_size > 100, name
    for name in ("last", "best"):
        assert checkpoint.load(run.path / "checkpoints" / name)
    assert list((run.path / "tensorboard").iterdir())
    assert not list(run.path.rglob(".*.tmp"))


def test_pictures_of_the_same_seeds_from_step_0_on(run: kuosan.Run) -> None:
    names = sorted(p.name for p in (run.path / "samples").iterdir())
    assert names[0] == "step_00000000.png" and names[-1] == f"step_{small.STEPS:08d}.png"
    assert len(names) == len(session.PREVIEWS)
    sizes = {Image.open(run.path / "samples" / name).size for name in names}
    assert len(sizes) == 1


def test_the_report_stands_alone_and_the_card_is_a_hub_card(run: kuosan.Run) -> None:
    report = (run.path / "report.html").read_text(encoding="utf-8")
    assert "</html>" in report and "data:image/" in report
    assert 'src="http' not in report and 'href="http' not in report.split("<body")[0]
    _, header, body = (run.path / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "kuosan"
    assert "kuosan sample" in body and f"{small.STEPS} steps" in body


def test_the_numbers_that_a_run_tells_agree_with_each_other(run: kuosan.Run) -> None:
    summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    evaluation = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
    assert summary["steps"] == small.STEPS and summary["skipped_steps"] == 0
    assert summary["metrics"] == evaluation["metrics"] and evaluation["metrics"]
    validated = {row["step"]: row["val_loss"] for row in rows(run.path) if "val_loss" in row}
    assert len(validated) == 5
    assert validated[summary["best_step"]] == min(validated.values()) == summary["val_loss"]
    assert run.facts.items == sum(small.COUNTS.values()) - round(0.1 * sum(small.COUNTS.values()))


def test_every_step_of_a_short_run_is_logged_once(run: kuosan.Run) -> None:
    assert [row["step"] for row in rows(run.path)] == list(range(1, small.STEPS + 1))
    assert all(isinstance(row["loss"], float) for row in rows(run.path))


def test_the_same_call_of_a_finished_run_does_nothing(copied: Callable[[], kuosan.Run], data: Path) -> None:
    run = copied()
    before = contents(run.path)
    leaves = {name.replace(".", "__"): value for name, value in small.LEAVES.items()}
    kuosan.train(data, out=run.path, budget=f"{small.STEPS}steps", **leaves)
    assert contents(run.path) == before


@pytest.mark.parametrize("lost", ["summary.json", "README.md report.html summary.json model.safetensors"])
def test_killed_as_it_finished_a_run_is_finished_by_the_same_call(
    copied: Callable[[], kuosan.Run], data: Path, lost: str
) -> None:
    run = copied()
    weights = checkpoint.load_weights(run.path / "model.safetensors")
    for name in lost.split():
        (run.path / name).unlink()
    leaves = {name.replace(".", "__"): value for name, value in small.LEAVES.items()}
    kuosan.train(data, out=run.path, budget=f"{small.STEPS}steps", **leaves)
    assert all((run.path / name).is_file() for name in lost.split())
    again = checkpoint.load_weights(run.path / "model.safetensors")
    assert all(torch.equal(weights[k], again[k]) for k in weights)


# -- resuming -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 7, 18, 29])
def test_the_same_command_goes_on_to_the_same_bits(
    data: Path, run: kuosan.Run, tmp_path: Path, step: int
) -> None:
    out = tmp_path / "run"
    stopped(data, out, step)
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 2')  # a kill cuts a line off
    (out / ".recipe.yaml.123.tmp").write_bytes(b"half")
    again = small.session(data, out, training__save_seconds=0.0)
    assert again.resumed and again.training.count.step == step
    for _ in again.steps():
        pass
    whole = small.session(data, tmp_path / "whole", training__save_seconds=0.0)
    for _ in whole.steps():
        pass
    assert tensors(out) == tensors(tmp_path / "whole") == tensors(run.path)
    assert ticks(out) == ticks(tmp_path / "whole")
    assert not list(out.rglob(".*.tmp"))
    pictures = {p.name: p.read_bytes() for p in (out / "samples").iterdir()}
    assert pictures == {p.name: p.read_bytes() for p in (tmp_path / "whole" / "samples").iterdir()}


def test_reopening_by_the_folder_alone_is_the_same(data: Path, run: kuosan.Run, tmp_path: Path) -> None:
    stopped(data, tmp_path / "run", 11)
    again = reopen(tmp_path / "run")
    assert again.training.count.step == 11
    for _ in again.steps():
        pass
    assert tensors(tmp_path / "run") == tensors(run.path)


def test_after_a_return_to_an_earlier_state_no_step_is_logged_twice(data: Path, tmp_path: Path) -> None:
    one = small.session(data, tmp_path / "run", training__save_seconds=0.0)
    spoilt, last, steps = 0, 0, []
    for event in one.steps():
        steps.append(event.step)
        if event.step == 11 and not spoilt:
            one.training.parameters[0].data.fill_(float("nan"))  # as an update that overflowed
            spoilt += 1
        last = event.step
    assert spoilt and last == small.STEPS and sorted(set(steps)) != steps
    assert one.training.count.returns == 1
    assert [row["step"] for row in rows(tmp_path / "run")] == list(range(1, small.STEPS + 1))


def test_another_command_is_refused_and_nothing_is_lost(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stopped(data, out, 3)
    before = contents(out)
    for leaves in ({"training__lr": 0.5}, {"seed": 1}, {"budget": "31steps"}, {"network__dim": 64}):
        with pytest.raises(UserError, match="started differently.*--out"):
            small.session(data, out, **({"training__save_seconds": 0.0} | leaves))
    assert contents(out) == before


def test_an_edited_recipe_is_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stopped(data, out, 3)
    path = out / "recipe.yaml"
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    tree["recipe"]["training"]["lr"] *= 2
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(UserError, match="another recipe"):
        reopen(out)


@pytest.mark.parametrize("change", ["pixel", "class", "name", "more", "gone"])
def test_data_that_changed_is_refused(data: Path, tmp_path: Path, change: str) -> None:
    mine = shutil.copytree(data, tmp_path / "ramps")
    out = tmp_path / "run"
    stopped(mine, out, 3)
    before, first = contents(out), mine / "flat" / "00.png"
    with Image.open(first) as opened:
        picture = opened.copy()
    match change:
        case "pixel":
            picture.putpixel((0, 0), 255 - picture.getpixel((0, 0)))  # type: ignore[operator]
            picture.save(first)
        case "class":
            first.rename(mine / "wide" / "zz.png")
        case "name":  # the order of the items is that of their names
            first.rename(mine / "flat" / "zz.png")
        case "more":
            picture.transpose(Image.Transpose.ROTATE_90).point(lambda v: 255 - v).save(
                mine / "flat" / "zz.png"
            )
        case "gone":
            shutil.rmtree(mine)
    with pytest.raises(UserError, match="has changed|is gone") as told:
        reopen(out)
    assert "\n" not in str(told.value)
    assert contents(out) == before


def test_files_that_vanish_or_change_while_it_trains_do_not_matter(
    data: Path, run: kuosan.Run, tmp_path: Path
) -> None:
    mine = shutil.copytree(data, tmp_path / "ramps")
    one = small.session(mine, tmp_path / "run")
    for event in one.steps():
        if event.step == 5:
            shutil.rmtree(mine / "flat")
        if event.step == 9:
            next((mine / "wide").iterdir()).write_bytes(b"no picture any more")
    assert event.step == small.STEPS
    theirs = checkpoint.load(run.path / "checkpoints/last")[0]
    ours = checkpoint.load(tmp_path / "run" / "checkpoints/last")[0]
    assert all(torch.equal(v, ours[k]) for k, v in theirs.items())


def test_a_recipe_of_another_version_is_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stopped(data, out, 3)
    path = out / "recipe.yaml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("\nformat: 1\n", "\nformat: 2\n"), encoding="utf-8"
    )
    with pytest.raises(UserError, match="format 2.*reads format 1"):
        reopen(out)


def test_a_damaged_checkpoint_stops_the_resume_and_is_left_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stopped(data, out, 3)
    path = next((out / "checkpoints" / "last").glob("state-*"))
    bad = bytearray(path.read_bytes())
    bad[len(bad) // 2] ^= 4
    path.write_bytes(bad)
    before = contents(out)
    with pytest.raises(UserError, match="damaged.*nothing was changed"):
        small.session(data, out, training__save_seconds=0.0)
    assert contents(out) == before


# -- beginning ----------------------------------------------------------------------------------------------


def test_a_folder_that_holds_something_else_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x", encoding="utf-8")
    for out in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(UserError, match="--out"):
            small.session(data, out)
    assert contents(tmp_path) == {"mine/thesis.txt": b"x"}


def test_what_a_kill_at_the_very_start_leaves_is_no_obstacle(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".recipe.yaml.77.tmp").write_bytes(b"kuosan: 0")
    assert not small.session(data, out).resumed


def test_without_out_a_run_gets_a_free_folder_and_the_same_command_finds_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def begin(**leaves: Any) -> Path:
        words = small.asked(**leaves)
        return prepare(data, recipe=Recipe().updated(words), asked=words).run.path

    assert begin() == Path("runs/ramps")
    assert begin(seed=1) == Path("runs/ramps-2")
    assert begin() == Path("runs/ramps")
    assert begin(data__size=(8, 8)) == begin(data__size=(8, 8)) == Path("runs/ramps-3")


def test_two_processes_never_train_one_run(data: Path, tmp_path: Path) -> None:
    import os

    handle = lock(tmp_path)
    with pytest.raises(UserError, match="another process"):
        lock(tmp_path)
    os.close(handle)
    os.close(lock(tmp_path))


def test_a_run_can_start_from_another_ones_weights(data: Path, run: kuosan.Run, tmp_path: Path) -> None:
    one = small.session(data, tmp_path / "next", init=str(run.path), network="auto", **{
        f"network__{k}": None for k in ("patch", "dim", "depth", "heads")
    })  # fmt: skip
    theirs = run.denoiser.state_dict()
    assert all(torch.equal(v, theirs[k]) for k, v in one.training.denoiser.state_dict().items())
    assert one.facts.network == run.facts.network and one.facts.columns == run.facts.columns
    for place, words in (("zoo:none", "zoo"), (str(tmp_path / "nowhere"), "no run")):
        with pytest.raises(UserError, match=words):
            small.session(data, tmp_path / "other", init=place)


# -- budgets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [5.0, 60.0, 600.0, 7200.0])
def test_what_is_kept_for_measuring_is_a_small_part_of_a_long_budget(seconds: float) -> None:
    kept = pace.reserve(seconds, 13.0)
    assert 0 < kept <= seconds / 2
    assert kept <= pace.reserve(seconds, 13.0, slowness=3.0) <= seconds / 2, (
        "of a machine that is shared, more"
    )
    if seconds >= 600:
        assert kept < 0.1 * seconds


def test_measuring_gets_what_a_budget_of_time_has_left(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    class Enough(Exception):
        pass

    def watch(run: Any, data: Any, samples: Any, *, seconds: float, most: int, free: Any, out: Any) -> Any:
        asked.update(n=len(samples), seconds=seconds, most=most)
        raise Enough

    monkeypatch.setattr(finish, "measure", watch)
    monkeypatch.setattr(
        opening, "calibrate", lambda *_: Speed(1, 1.0)
    )  # it would choose threads for all tests
    # Some seconds for a busy machine: what passes during the test itself counts too.
    words = small.asked(budget="1000s")
    recipe, started = Recipe().updated(words), time.monotonic() - 800
    one = prepare(data, out=tmp_path / "timed", recipe=recipe, asked=words, started=started)
    cost = pace.cost_of(one.data)
    assert one.facts.seconds == pytest.approx(1000 - 800 - pace.reserve(1000.0, cost), abs=25)
    with pytest.raises(Enough):
        finish.finish(one)
    assert asked["seconds"] == pytest.approx(0.6 * (200 - cost), abs=25)
    assert finish.FEWEST <= asked["n"] <= finish.MOST
    one.seconds_per_sample = 10.0  # a network that is slow to sample: as few as are worth measuring
    with pytest.raises(Enough):
        finish.finish(one)
    assert asked["n"] == finish.FEWEST
    counted = small.session(data, tmp_path / "counted")
    assert counted.remaining() is None and counted.facts.seconds is None
