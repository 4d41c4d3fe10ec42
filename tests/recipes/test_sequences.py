"""The samplers of runs: measured, unmeasured, and the one that a recipe asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import kuosan
from kuosan.recipes import sequences
from kuosan.solvers.sequence import Sequence, Tabled, read_sequence
from tests.recipes import small


def test_a_finished_run_has_measured_its_own_steps(run: kuosan.Run) -> None:
    steps = run.facts.recipe.sampling.steps
    kept = read_sequence(sequences.path_of(run, steps, 1.0))
    assert kept.about["kind"] == "stock" and kept == run.sequence()
    assert run.sampler() == {"steps": steps, "solver": kept.solver, "grid": kept.grid, "w": 1.0}
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert kept.grid in page and kept.grid in (run.path / "README.md").read_text(encoding="utf-8")


def test_where_there_is_no_time_the_recipe_stands(copied: Callable[[], kuosan.Run]) -> None:
    run = copied()
    sequence = sequences.unmeasured(run)
    sampling = run.facts.recipe.sampling
    assert (sequence.solver, sequence.grid) == (sampling.solver, sampling.grid)
    run.forget_sequences()
    assert run.sequence() == sequence
    named = run.sample(4, solver=sampling.solver, grid=sampling.grid).x
    # a sequence begins with the noise of its first level alone: 80 of 80.006
    assert float((run.sample(4).x - named).abs().max()) < 2e-3


def test_a_recipe_that_names_a_sampler_keeps_to_it(data: Path, tmp_path: Path) -> None:
    leaves = {name.replace(".", "__"): value for name, value in small.LEAVES.items()}
    run = kuosan.train(data, out=tmp_path / "run", budget="4steps", **leaves | {"sampling__solver": "ddim"})
    assert run.sequence() is None and run.sampler()["solver"] == "ddim"
    assert not list((run.path / "grids").glob("steps-*.json"))


def test_an_estimate_of_what_measuring_takes(copied: Callable[[], kuosan.Run]) -> None:
    """Within half of the calls that are counted."""
    found = sequences.measured(copied(), 7, keep=False)
    assert 0.5 < found.about["calls"] / sequences.calls(7) < 2


@pytest.mark.parametrize(
    "change",
    [{"times": (1.0, 0.0)}, {"solver": "learned"}, {"state": (1.0, 1.0)}, {"times": (2.0, 0.5, 0.0)}, {"w": (1.0,)},
     {"solver": "nothing"}],
)  # fmt: skip
def test_a_sequence_is_whole_or_none(change: dict[str, object]) -> None:
    good: dict[str, object] = {"steps": 2, "solver": "deis", "grid": "", "times": (0.9, 0.5, 0.0)}
    Sequence(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"control sequence|no solver"):
        Sequence(**good | change)  # type: ignore[arg-type]


def test_a_shared_call_is_one_more_time() -> None:
    times, state, terms = (1.0, 0.5, 0.0), (0.5, 0.0), ((0.1, 0.0), (0.2, 0.3))
    one = Sequence(1, "learned", "learned", times, state, terms, far=True)
    assert one.rule() == Tabled(times, state, terms, far=True)
    with pytest.raises(ValueError, match="of 2 steps"):
        Sequence(2, "learned", "learned", times, state, terms, far=True)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    sequence = Sequence(
        2, "learned", "learned", (0.9, 0.5, 0.0), (0.5, 0.0), ((0.1, 0.0), (0.2, 0.3)), 2.0, (1.5, 2.5),
        model="x", about={"n": 3},
    )  # fmt: skip
    sequence.save(tmp_path / "a" / "steps-002.json")
    assert read_sequence(tmp_path / "a" / "steps-002.json") == sequence


def test_many_steps_are_not_measured(copied: Callable[[], kuosan.Run]) -> None:
    """A thousand steps need no choice, and to measure one would take hours."""
    run = copied()
    assert run.sequence(sequences.LONGEST + 1) is None and not sequences.missing(run, 1000, None)
    assert run.sampler(1000)["solver"] == run.facts.recipe.sampling.solver
    one = run.sequence(1)
    assert one is not None and len(run.sample(2, steps=1)) == 2
