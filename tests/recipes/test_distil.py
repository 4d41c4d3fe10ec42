"""A student: what it learns from, where its run stands, what it can be asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import kuosan
from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.recipes import lessons
from kuosan.recipes.distil import distil, prepare
from kuosan.recipes.export import export
from kuosan.recipes.live import wander
from kuosan.recipes.opening import reopen
from kuosan.recipes.session import Session
from kuosan.training import checkpoint
from tests.recipes import small

BUDGET = "24steps"
FINE = {"solver_name": "deis", "grid": "karras:7"}


def tensors(path: Path) -> dict[str, bytes]:
    found = checkpoint.load(path / "checkpoints" / "last")[0]
    return {k: v.numpy().tobytes() for k, v in found.items()}


def walked(session: Session, stop: int | None = None) -> Session:
    session.training.settings = _save_always(session.training.settings)
    for event in session.steps():
        if stop is not None and event.step > stop:
            break
    return session


def _save_always(settings: Any) -> Any:
    from dataclasses import replace

    return replace(settings, save_seconds=0.0)


@pytest.fixture(scope="module")
def student(run: kuosan.Run, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """Of two steps; to be read only."""
    return run.distil(2, budget=BUDGET, out=tmp_path_factory.mktemp("students") / "two")


def test_a_student_is_a_run_of_its_own(run: kuosan.Run, student: kuosan.Run) -> None:
    for name in (
        "recipe.yaml",
        "model.safetensors",
        "metrics.jsonl",
        "report.html",
        "README.md",
        "summary.json",
    ):
        assert (student.path / name).stat().st_size > 100, name
    assert student.facts.recipe.init == str(run.path.resolve())
    samples = student.sample(5)
    assert samples.x.shape == (5, *run.shape)
    assert torch.allclose(samples.x[2:3], student.sample(1, first=2).x, atol=1e-5)
    # pairs go when the run is finished, and their number stays
    assert [p.name for p in (student.path / "checkpoints/pairs").iterdir()] == [lessons.ALL]
    # a quarter of 24 steps, at a walk's price of 11 calls beside 3 for a step
    recipe = student.facts.recipe
    assert recipe.training.batch == 8 and lessons.pairs_of(student.facts, 24) == lessons.CHUNK
    assert lessons.pairs_of(student.facts, 24_000) == round(0.25 * 24_000 * 8 * 3 / 11 / 64) * 64


def test_pairs_are_where_the_teacher_goes(run: kuosan.Run, tmp_path: Path) -> None:
    """The first point is the prior's draw, the end what the teacher's own solver makes of it."""
    session = prepare(run, 2, budget=BUDGET, w=6.0, out=tmp_path / "student")
    session.learn()
    assert session.lessons is not None
    x, cond = session.lessons.train.batch(torch.arange(6))
    seeds = Seeds.of(0, 6).fold("pairs", "train")
    z = run.denoiser.process.prior(torch.empty(6, *run.shape), seeds.fold("prior"))
    assert torch.equal(x[:, 0], z)
    fine = _end(run, z, cond, 400, 6.0, **FINE)
    assert (x[:, 2] - fine).abs().mean() < 0.02
    assert (x[:, 2] - _end(run, z, cond, 400, 1.0, **FINE)).abs().mean() > 0.02  # the guidance is in it
    # held-out pairs are others
    held, _ = session.lessons.val.batch(torch.arange(6))
    assert not torch.equal(held[:, 0], z)


def _end(
    run: kuosan.Run, z: torch.Tensor, cond: dict[str, torch.Tensor], steps: int, w: float, **how: str
) -> torch.Tensor:
    x = z
    with torch.inference_mode():
        for step in run.walk(Seeds.of(0, len(z)), cond, steps=steps, w=w, noise=z, **how):  # type: ignore[arg-type]
            x = step.x
    return x


@pytest.mark.parametrize("stop", [0, 1, 9])
def test_killed_and_gone_on_with_it_ends_with_the_same_bits(
    run: kuosan.Run, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = walked(prepare(run, 1, budget=BUDGET, out=tmp_path / "whole"))
    out = tmp_path / "cut"
    first = prepare(run, 1, budget=BUDGET, out=out)
    if stop:
        walked(first, stop)
    else:  # killed as the teacher walked: what is there is kept, and not made again
        assert first.lessons is not None
        first.lessons._chunk(lessons.Teacher(first.facts), "held-out", 0)
        made = lessons.Teacher.walk
        calls: list[str] = []

        def counted(self: lessons.Teacher, numbers: range, side: str) -> Any:
            calls.append(f"{side} {numbers[0]}")
            return made(self, numbers, side)

        monkeypatch.setattr(lessons.Teacher, "walk", counted)
    again = prepare(run, 1, budget=BUDGET, out=out) if stop != 9 else reopen(out)
    walked(again)
    assert tensors(out) == tensors(whole.run.path)
    if not stop:
        assert "held-out 0" not in calls and "held-out 64" in calls and "train 0" in calls


def test_training_brings_the_student_nearer_to_its_teachers_ends(run: kuosan.Run, tmp_path: Path) -> None:
    session = walked(prepare(run, 1, budget="300steps", out=tmp_path / "student"))
    rows = [float(line.split('"val_loss": ')[1].split(",")[0]) for line in _held_out(session.run.path)]
    assert rows[-1] < 0.5 * rows[0]


def _held_out(path: Path) -> list[str]:
    lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if '"val_loss"' in line]


def test_fewer_steps_than_it_knows_begin_at_the_same_time(student: kuosan.Run) -> None:
    two, one = student.grid(2), student.grid(1)
    assert two.tolist() == [*student.facts.recipe.distil.times, 0.0]
    assert one.tolist() == [two[0].item(), 0.0]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"steps": 8}, "student of 2 steps"),
        ({"solver": "ddim"}, "--solver ddim"),
        ({"grid": "uniform"}, "--grid uniform"),
        ({"w": 2.0}, "--w"),
    ],
)
def test_a_student_is_sampled_in_its_own_way_alone(
    student: kuosan.Run, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        student.sample(2, **asked)


def test_a_student_has_no_flow(student: kuosan.Run) -> None:
    x = torch.zeros(1, *student.shape)
    with pytest.raises(UserError, match="use its teacher"):
        student.encode(x)
    with pytest.raises(UserError, match="use its teacher"):
        student.evaluate(n=8, likelihood=True)


def test_what_cannot_be_distilled(
    run: kuosan.Run, student: kuosan.Run, copied: Callable[[], kuosan.Run], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="student itself"):
        distil(student, 1)
    with pytest.raises(UserError, match="1, 2 or 4"):
        distil(run, 3)
    gone = copied()
    (gone.path / "recipe.yaml").write_text(
        (gone.path / "recipe.yaml")
        .read_text(encoding="utf-8")
        .replace(run.facts.recipe.data.path, "/no/where"),
        encoding="utf-8",
    )
    with pytest.raises(UserError, match="--data"):
        distil(kuosan.load(gone.path), 1, out=tmp_path / "new")
    with pytest.raises(UserError, match="started differently"):
        distil(run, 1, budget=BUDGET, out=student.path)


@pytest.mark.foreign_rng("diffusers initialises a network before its weights are read")
def test_a_pipelines_student_goes_on_and_a_students_pipeline_says_the_same(
    data: Path, tmp_path: Path
) -> None:
    leaves = {
        "network": "unet", "network__base": 8, "network__mults": (1, 2), "network__blocks": 1,
        "network__attention": (), "training__batch": 8, "training__validations": 1,
    }  # fmt: skip
    teacher = kuosan.train(data, out=tmp_path / "teacher", budget="4steps", **leaves)
    export(teacher, "diffusers", tmp_path / "pipeline")
    foreign = kuosan.load(tmp_path / "pipeline")
    with pytest.raises(UserError, match="--data"):
        distil(foreign, 1, out=tmp_path / "none")
    student = distil(foreign, 1, budget="4steps", data=data, out=tmp_path / "student")
    assert reopen(student.path).training.count.finished
    export(student, "diffusers", tmp_path / "exported")
    from diffusers import DDPMPipeline

    pipe = DDPMPipeline.from_pretrained(tmp_path / "exported")
    pipe.scheduler.set_timesteps(1)
    z = Seeds.of(0, 4).normal(torch.empty(4, *student.shape))
    t = pipe.scheduler.timesteps[0]
    with torch.no_grad():
        theirs = pipe.scheduler.step(pipe.unet(z, t).sample, t, z).prev_sample
    own = _end(student, z, {}, 1, 1.0)
    assert torch.allclose(theirs, own, atol=5e-4)  # its table rounds the time to a thousandth
    with pytest.raises(UserError, match="--steps 1"):
        export(distil(teacher, 2, budget="4steps", out=tmp_path / "two"), "diffusers", tmp_path / "no")


def test_noise_without_a_score_can_be_distilled_too(data: Path, tmp_path: Path) -> None:
    """The flow of averages is all that a student needs, whatever the noise."""
    leaves = {name.replace(".", "__"): value for name, value in small.LEAVES.items()}
    laplace = kuosan.train(data, out=tmp_path / "laplace", budget="8steps", noise="laplace", **leaves)
    learned = distil(laplace, 1, budget="8steps")
    assert learned.path == tmp_path / "laplace-1-step"
    assert learned.sample(3).x.isfinite().all()


def test_a_learned_variance_stays_out_of_a_students_samples(data: Path, tmp_path: Path) -> None:
    leaves = {name.replace(".", "__"): value for name, value in small.LEAVES.items()}
    leaves["objective__variance"] = "learned"
    teacher = kuosan.train(data, out=tmp_path / "teacher", budget="8steps", **leaves)
    learned = distil(teacher, 1, budget="8steps")
    seeds = Seeds.of(0, 4)
    with torch.inference_mode():
        step = next(iter(learned.walk(seeds, learned.conditions(0, range(4)))))
    assert torch.equal(step.x, step.q.mean)


def test_a_stream_gives_the_same_samples_one_by_one(student: kuosan.Run) -> None:
    together = student.sample(5, seed=3, first=2)
    apart = list(student.stream(5, seed=3, first=2))
    assert [len(one) for one in apart] == [1] * 5 and [one.first for one in apart] == [2, 3, 4, 5, 6]
    assert torch.allclose(torch.cat([one.x for one in apart]), together.x, atol=1e-5)
    assert [len(one) for one in student.stream(5, together=2)] == [2, 2, 1]
    endless = student.stream()
    assert [next(endless).first for _ in range(3)] == [0, 1, 2]


def test_live_frames_pass_through_the_noises_and_move_little(student: kuosan.Run) -> None:
    frames = wander(student, 1, where={"class": "steep"}, leg=8)
    x = torch.cat([next(frames) for _ in range(17)])
    moved = (x[1:] - x[:-1]).square().mean((1, 2, 3)).sqrt()
    apart = (x[0] - x[8]).square().mean().sqrt()
    assert float(moved.max()) < float(apart) and float(moved.min()) > 0
    fresh = wander(student, 1, where={"class": "steep"}, leg=4)
    legs = torch.cat([next(fresh) for _ in range(5)])
    assert torch.allclose(legs[4], x[8], atol=1e-5)  # the second noise, whatever the length of a leg


def test_the_recipe_of_a_run_that_is_no_student_is_as_it_was(run: kuosan.Run, copied: Any) -> None:
    """Checkpoints from before there were students can still be resumed: nothing of them is in the fingerprint."""
    old = copied()
    path = old.path / "recipe.yaml"
    text = path.read_text(encoding="utf-8")
    start = text.index("  distil:\n")
    path.write_text(text[:start] + text[text.index("network:\n", start) :], encoding="utf-8")
    assert reopen(old.path).training.count.finished
    shutil.rmtree(old.path)
