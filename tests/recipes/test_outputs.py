"""What a network says where nobody asks: x of what is no picture, of tokens narrow for their patches, else v."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kuosan.errors import UserError
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe
from tests.recipes import small


def output(data: Path, **leaves: Any) -> str:
    words = small.asked(**leaves)
    return settle(data, None, Recipe().updated(words), words).facts.recipe.objective.output


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Balls of several sizes, on grids of 16³."""
    folder = tmp_path_factory.mktemp("balls")
    across = np.stack(np.meshgrid(*[np.linspace(-1, 1, 16)] * 3))
    for i in range(40):
        np.save(folder / f"{i}.npy", np.linalg.norm(across, axis=0) < 0.3 + 0.01 * i)
    return folder


@pytest.mark.parametrize(
    ("leaves", "said"),
    [
        ({}, "x"),  # tokens of 32 for 64 values
        ({"objective__weight": "min_snr"}, "x"),
        ({"network__patch": 2}, "v"),  # four values for each of a patch
        ({"objective__output": "v"}, "v"),
        ({"objective__weight": "sigmoid"}, "v"),
        ({"objective__weight": "uniform"}, "v"),
        ({"objective__kind": "elbo"}, "v"),
        ({"schedule": "learned"}, "v"),
        ({"schedule": "rectified"}, "velocity"),
        ({"schedule": "edm"}, "edm"),
    ],
)
def test_of_shapes(shapes: Path, leaves: dict[str, Any], said: str) -> None:
    assert output(shapes, data__modality="shape", data__form="distance", **leaves) == said


def test_of_pictures(data: Path) -> None:
    assert output(data) == output(data, network__dim=16) == "v"
    assert output(data, objective__output="x") == "x"
    assert output(data, schedule="edm") == "edm"


def test_pictures_have_no_velocity_and_no_feet(data: Path) -> None:
    words = small.asked()
    assert settle(data, None, Recipe().updated(words), words).facts.recipe.objective.velocity == 0
    for leaf, none in (("velocity", "no time"), ("feet", "no feet")):
        words = small.asked(**{f"objective__{leaf}": 1.0})
        with pytest.raises(UserError, match=none):
            settle(data, None, Recipe().updated(words), words)
