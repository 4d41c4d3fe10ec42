"""Runs under other noises: trained, saved, sampled and started from; what only the Gaussian has is refused in a
sentence, before anything is begun."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml

import kuosan
from kuosan.core.schedules import Cosine
from kuosan.errors import UserError
from kuosan.processes.gaussian import GaussianProcess
from kuosan.processes.noises import Student
from kuosan.recipes.export import export
from kuosan.recipes.noise import build_process, build_solver
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import NoisePart, Recipe
from kuosan.solvers import SOLVERS
from tests.recipes import small

KINDS = sorted(set(get_args(NoisePart.model_fields["kind"].annotation)) - {"auto"})


@pytest.fixture(scope="module")
def heavy(data: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """A short run under Student's noise."""
    out = tmp_path_factory.mktemp("runs") / "heavy"
    leaves: dict[str, Any] = {name.replace(".", "__"): value for name, value in small.LEAVES.items()}
    return kuosan.train(data, out=out, budget="10steps", noise="student", noise__df=3, **leaves)


def refused(data: Path, **leaves: Any) -> str:
    words = small.asked(**leaves)
    with pytest.raises(UserError) as caught:
        settle(data, None, Recipe().updated(words), words)
    return str(caught.value)


def test_a_run_keeps_its_noise(heavy: kuosan.Run) -> None:
    saved = yaml.safe_load((heavy.path / "recipe.yaml").read_text())
    assert saved["recipe"]["noise"] == {"kind": "student", "df": 3.0, "shared": True, "power": 1.5}
    assert ["noise.kind", "student", "asked for"] in saved["choices"]
    process = kuosan.load(heavy.path).denoiser.process
    assert process.noise == Student(3.0) and not isinstance(process, GaussianProcess)
    twin = copy.deepcopy(heavy.denoiser).process
    assert type(twin) is type(process) and twin.noise == process.noise
    for solver in ("auto", "ancestral", "cold", "redraw"):
        x = heavy.sample(6, steps=3, solver=solver, seed=2).x
        assert bool(torch.isfinite(x).all())
        assert torch.allclose(heavy.sample(2, steps=3, solver=solver, seed=2, first=3).x, x[3:5], atol=1e-5)


def test_what_other_programs_cannot_sample_is_not_offered(heavy: kuosan.Run, tmp_path: Path) -> None:
    assert "--to diffusers" not in (heavy.path / "README.md").read_text()
    with pytest.raises(UserError, match=r"Student's .* noise, and diffusers draws Gaussian noise only"):
        export(heavy, "diffusers", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_likelihood_is_refused_with_the_reason_before_any_work(heavy: kuosan.Run) -> None:
    before = (heavy.path / "evaluation.json").read_bytes()
    with pytest.raises(
        UserError, match=r"no likelihood, because the divergence of its reverse steps has no closed"
    ):
        heavy.evaluate(n=8, likelihood=True)
    assert (heavy.path / "evaluation.json").read_bytes() == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_solvers_that_are_offered_are_those_that_work(kind: str) -> None:
    process = build_process(NoisePart(kind=kind), Cosine())
    fit = {name for name, make in SOLVERS.items() if isinstance(process, make().needs)}
    assert {"deis", "ddim", "cold", "redraw"} <= fit
    assert ("ancestral" in fit) == (kind in ("gaussian", "laplace", "student"))
    assert ("sde-dpm++2m" in fit) == (kind == "gaussian")
    for name in SOLVERS.keys() - fit:
        with pytest.raises(UserError, match="choose one of") as caught:
            build_solver(name, process)
        assert set(str(caught.value).partition("choose one of ")[2].split(", ")) == fit


def test_old_recipes_have_gaussian_noise() -> None:
    assert isinstance(build_process(NoisePart(), Cosine()), GaussianProcess)
    assert NoisePart().gaussian and not NoisePart(kind="uniform").gaussian


def test_what_only_the_gaussian_has_is_refused(data: Path) -> None:
    assert "objective.output=eps" in refused(data, noise="laplace", objective__output="score")
    assert "noise=gaussian" in refused(data, noise="uniform", objective__kind="elbo")
    assert "objective.weight=uniform is a bound" in refused(data, noise="binary", objective__weight="uniform")
    assert "noise.df above 2" in refused(data, noise="student", noise__df=2, objective__output="v")
    assert "choose one of" in refused(data, noise="uniform", sampling__solver="ancestral")
    with pytest.raises(UserError, match=r"noise\.df"):
        Recipe().updated({"noise.df": 0.5})


def test_noise_without_a_variance_is_learned_by_its_data(data: Path) -> None:
    words = small.asked(noise="student", noise__df=1.5)
    plan = settle(data, None, Recipe().updated(words), words)
    assert plan.facts.recipe.objective.output == "x"


@pytest.mark.parametrize(("leaves", "kind"), [({}, "student"), ({"noise": "uniform"}, "uniform")])
def test_a_start_brings_its_noise_unless_another_is_asked_for(
    heavy: kuosan.Run, data: Path, leaves: dict[str, str], kind: str
) -> None:
    words = {"budget": "10steps", "init": str(heavy.path), **leaves}
    plan = settle(data, None, Recipe().updated(words), words)
    assert plan.facts.recipe.noise.kind == kind
    assert {a: c for a, _, c in plan.facts.choices}["noise.kind"] == (
        "asked for" if leaves else f"from {heavy.path}"
    )
