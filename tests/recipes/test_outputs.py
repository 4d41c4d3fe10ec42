"""What a network says where nobody asks: x of transformers, v where bits count or no gain by x is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe
from tests.recipes import small


def output(data: Path, **leaves: Any) -> str:
    words = small.asked(**leaves)
    return settle(data, None, Recipe().updated(words), words).facts.recipe.objective.output


@pytest.mark.parametrize(
    ("leaves", "said"),
    [
        ({}, "x"),
        ({"objective__weight": "min_snr"}, "x"),
        ({"objective__output": "v"}, "v"),
        ({"objective__weight": "sigmoid"}, "v"),
        ({"objective__weight": "uniform"}, "v"),
        ({"objective__kind": "elbo"}, "v"),
        ({"schedule": "learned"}, "v"),
        ({"schedule": "rectified"}, "velocity"),
        ({"schedule": "edm"}, "edm"),
        ({"noise": "student", "noise__df": 1.5, "objective__weight": "min_snr"}, "x"),
    ],
)
def test_of_pictures(data: Path, leaves: dict[str, Any], said: str) -> None:
    assert output(data, **leaves) == said


def test_of_a_convolutional_network(data: Path) -> None:
    words = {"budget": "5steps", "network": "unet"}
    assert settle(data, None, Recipe().updated(words), words).facts.recipe.objective.output == "v"
