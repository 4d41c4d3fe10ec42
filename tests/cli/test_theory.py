"""`kuosan theory`: one object, two files, and numbers that agree with the theory that they illustrate."""

from __future__ import annotations

import functools
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kuosan.core.random import Seeds
from kuosan.core.shapes import as_time
from kuosan.explain import small
from kuosan.explain import theory as module
from kuosan.explain.box import Box
from kuosan.explain.theory import Effort, Study

from .conftest import Result, call

LITTLE = functools.partial(
    Study,
    training=60,
    batches=4,
    line=Effort(Box(-3.6, 3.6, 180), 6, 36, 3, 500),
    sheet=Effort(Box(-2.8, 2.8, 30, 2), 3, 20, 1, 100),
)


@pytest.fixture(scope="module", autouse=True)
def _little() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Study", LITTLE)
        yield


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Result:
    result = call("theory", "--out", tmp_path_factory.mktemp("theory"), "--json")
    assert result.status == 0, result.err
    return result


def test_it_leaves_a_picture_and_the_numbers_that_it_answers_with(answered: Result) -> None:
    data = answered.json
    kept = json.loads(Path(data["numbers"]).read_text(encoding="utf-8"))
    assert {k: data[k] for k in kept} == kept and data["seed"] == 0
    picture = np.asarray(Image.open(io.BytesIO(Path(data["picture"]).read_bytes())).convert("RGB"))
    assert min(picture.shape[:2]) > 1000
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 200, "more than axes was drawn"
    assert "training a small network" in answered.err


def test_the_three_ways_agree_where_theory_says_so(answered: Result) -> None:
    courses = answered.json["courses"]
    found = {(c["denoiser"], c["eta"], c["dims"]): c for c in courses}
    assert set(found) == {
        ("none", None, 1), ("exact", 1.0, 1), ("exact", 0.0, 1), ("network", 1.0, 1), ("network", 0.0, 1),
        ("exact", 1.0, 2),
    }  # fmt: skip
    for (who, _, dims), course in found.items():
        for name in ("samples_exact", "samples_equation"):
            d = course[name]
            assert {"value", "stderr", "n", "floor"} <= set(d)
            if dims == 1 and (name == "samples_equation" or who != "network"):
                # samples follow the equation of their own dynamics, whatever the denoiser
                assert abs(d["value"] - d["floor"]) < 5 * d["stderr"] + 0.02, (who, name, d)
        assert (
            len(course["along"]["t"])
            == len(course["along"]["equation_exact"])
            == len(course["along"]["floor"])
        )
        assert course["along"]["equation_exact"][-1] == course["equation_exact"]
        assert course["along"]["t"][-1] == course["t"] == (0.99 if who == "none" else 0.01)
        if who != "network":
            assert course["equation_exact"] < (0.02 if dims == 1 else 0.2)
    # hardly trained: what it is off by is the denoiser's error, not chance
    assert found["network", 0.0, 1]["equation_exact"] > 20 * found["exact", 0.0, 1]["equation_exact"]


def test_the_residual_tells_the_network_from_the_exact_denoiser(answered: Result) -> None:
    rows = answered.json["residual"]
    assert {r["n"] for r in rows} == {500} and all(r["stderr"] >= 0 for r in rows)
    exact, network = ([r["root"] for r in rows if r["denoiser"] == who] for who in ("exact", "network"))
    assert len(exact) == len(network) and max(exact) < 1e-12 and max(network) > 1e-3


def test_a_seed_gives_the_same_numbers_and_the_text_has_a_row_for_each_course(
    answered: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("theory", "--seed", 0)
    assert result.status == 0, result.err
    assert result.out.count("generation,") == 5 and result.out.count("corruption,") == 1
    assert "4 x 500" in result.out and "runs/theory/theory.png" in result.out
    same = json.loads(Path("runs/theory/theory.json").read_text(encoding="utf-8"))
    other = call("theory", "--seed", 1, "--json").json
    for part in ("courses", "residual"):
        assert same[part] == answered.json[part] != other[part]


def test_what_cannot_be_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    taken = call("theory", "--out", tmp_path / "file")
    assert taken.status == 2 and "--out" in taken.err and "training" not in taken.err
    assert call("theory", "--seed", -1).status == 2


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_paths_are_as_rough_as_their_churn(eta: float) -> None:
    """The squares of a path's steps sum to ∫ η² g² dt: π ∫ tan(πt/2) dt on the cosine schedule."""
    law, study = small.three_hills(), Study(batches=2)
    effort = Effort(Box(-3.6, 3.6, 36), 6, 200, 1, module.PATHS // 2)
    course = module._reverse(study, effort, law, "exact", law, eta)
    inside = (course.times > 0.2) & (course.times < 0.8)
    steps, times = course.paths[inside].diff(dim=0), course.times[inside].tolist()
    total = float(steps.square().sum(0).mean())
    expected = 2 * math.log(math.cos(math.pi * times[-1] / 2) / math.cos(math.pi * times[0] / 2))
    assert total == pytest.approx(eta**2 * expected, rel=0.08, abs=0.05)


def test_a_distance_is_a_mean_over_batches() -> None:
    bins = Box(0, 4, 4)
    counted = bins.histogram(torch.tensor([[0.5]])) * torch.tensor(
        [[1.0], [0.5], [0.25]], dtype=torch.float64
    )
    found = module._distance(bins, counted, torch.zeros(4, dtype=torch.float64), 7)
    values = np.array([1.0, 0.5, 0.25])
    assert found.value == pytest.approx(values.mean()) and found.n == 7
    assert found.stderr == pytest.approx(values.std(ddof=1) / math.sqrt(3))


def test_draws_of_a_law_have_its_density() -> None:
    law, n = small.three_hills(), 20_000
    x = small.draw(law, Seeds.of(3, n))
    box = Box(-2.4, 2.4, 24)
    counts = box.histogram(x) * n * box.width
    fine = Box(-2.4, 2.4, 24 * 20)  # a cell's probability, not its middle's density
    p = fine.averaged(fine.density(lambda y: law.log_density(y, as_time(1e-6, len(y)))), 20) * box.width
    likely = p * n > 5
    chi2 = float(((counts - n * p).square() / (n * p))[likely].sum())
    count = int(likely.sum())
    assert abs(chi2 - count) < 5 * math.sqrt(2 * count)


def test_training_lowers_the_distance_from_the_data() -> None:
    law = small.three_hills()
    x = small.draw(law, Seeds.of(9, 2000)).float()
    t = as_time(0.3, 2000)
    x_t = law.process.corrupt(x, t, Seeds.of(10, 2000))
    models = [small.train(law, 0, steps) for steps in (1, 150)]
    with torch.no_grad():
        errors = [float((model(x_t, t).mean - x).square().mean()) for model in models]
        best = float((law(x_t, t).mean - x).square().mean())
    assert best < errors[1] < best + 0.2 * (errors[0] - best)
