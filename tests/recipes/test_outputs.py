"""What a network says where nobody asks: x where tokens are narrow for their patches and bits do not count, else v."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kuosan.errors import UserError
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import Recipe
from tests.recipes import small


def output(data: Path, **leaves: Any) -> str:
    words = small.asked(**{"objective__output": "auto"} | leaves)
    return settle(data, None, Recipe().updated(words), words).facts.recipe.objective.output


@pytest.mark.parametrize(
    ("leaves", "said"),
    [
        ({}, "x"),
        ({"objective__weight": "min_snr"}, "x"),
        ({"network__dim": 64}, "v"),  # four values for each of a patch
        ({"network__patch": 2}, "v"),
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


def test_frames_without_time_have_no_velocity(data: Path) -> None:
    words = small.asked()
    assert settle(data, None, Recipe().updated(words), words).facts.recipe.objective.velocity == 0
    words = small.asked(objective__velocity=1.0)
    with pytest.raises(UserError, match="no time"):
        settle(data, None, Recipe().updated(words), words)
