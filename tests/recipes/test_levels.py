"""The diagnosis by noise level: where samples part from real items, and where training items are known better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from kuosan.recipes.report_levels import levels_of, levels_section
from kuosan.recipes.session import Session
from tests.recipes import small


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A session of a few steps, with as many held-out pictures as the diagnosis needs."""
    place = tmp_path_factory.mktemp("levels")
    rng = np.random.Generator(np.random.Philox(key=3))
    ramp = np.linspace(0, 200, 8)[None] * np.ones((8, 1))
    for name, count in (("train", 24), ("val", 96)):
        for i in range(count):
            (place / "data" / name).mkdir(parents=True, exist_ok=True)
            pixels = np.clip(ramp + 40 * rng.random((8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / "data" / name / f"{i:03d}.png")
    one = small.session(place / "data", place / "run", budget="6steps", training__validations=1)
    for _ in one.steps():
        pass
    one.write_weights("best")
    return one


@pytest.fixture(scope="module")
def found(trained: Session) -> dict[str, Any]:
    return levels_of(trained, 1e9)


def test_results_part_from_real_items_as_the_noise_that_they_begin_from_grows(found: dict[str, Any]) -> None:
    """A network of six steps knows nothing: under little noise items come back, from pure noise nothing does."""
    begun = found["begun"]
    times = [row["begun"] for row in begun]
    assert times == sorted(times) and times[-1] == 1.0 and len(times) == 5
    assert found["n"] == 48 and found["n_reference"] == 48, "no item is on both sides"
    for row in begun:
        assert row["value"] - found["floor"] == pytest.approx(row["more"], rel=1e-9, abs=1e-9)
    assert begun[0]["more"] < 0.2 * begun[-1]["more"] and begun[-1]["more"] > 5 * begun[-1]["more_stderr"]


def test_the_gap_is_that_of_the_losses_level_by_level(trained: Session, found: dict[str, Any]) -> None:
    held = trained.training.judge(trained.run.model)
    seen = trained.training.judge(trained.run.model, trained.training.train)
    assert found["gap"]["value"] == pytest.approx(held.loss - seen.loss)
    assert [row["place"] for row in found["gaps"]] == [place for place, _ in held.levels]
    mean = sum(row["gap"] for row in found["gaps"]) / len(found["gaps"])
    assert mean == pytest.approx(found["gap"]["value"])
    (section,) = levels_section(found, "pictures")
    assert len(section.figures) == len(section.lead) == 2


def test_without_time_nothing_is_asked(trained: Session) -> None:
    assert levels_of(trained, 0.0) == {} and levels_section({}, "pictures") == []
