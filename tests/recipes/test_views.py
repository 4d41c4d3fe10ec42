"""Crops, routes and couplings as leaves: what a run becomes with them, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import kuosan
from kuosan.errors import UserError
from kuosan.recipes.build import build_objective
from kuosan.recipes.export import export
from kuosan.recipes.opening import settle
from kuosan.recipes.schema import ObjectivePart, Recipe, TrainingPart
from kuosan.recipes.views import CROPS, choose_views
from kuosan.training.coupling import Independent, Transport
from kuosan.training.objective import Denoising
from kuosan.training.views import EVERYTHING, Views
from tests.recipes import small

UNET: dict[str, Any] = {f"network.{k}": None for k in ("patch", "dim", "depth", "heads")} | {
    "network": "unet", "network.base": 8, "network.mults": (1, 2), "network.blocks": 1, "network.attention": (),
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.pictures(tmp_path_factory.mktemp("views") / "ramps")


def planned(data: Path, **leaves: Any) -> Any:
    words = small.asked(**leaves)
    return settle(data, None, Recipe().updated(words), words)


def test_the_leaves_are_what_is_trained_on(data: Path) -> None:
    asked = {
        "training__crops": 0.5,
        "training__route": 0.25,
        "training__coupling": "transport",
        "network__depth": 3,
    }
    facts = planned(data, **asked).facts
    objective = build_objective(facts.recipe.objective, facts.recipe.training)
    assert isinstance(objective, Denoising)
    assert (objective.views.crops, objective.views.route) == (0.5, 0.25)
    assert 0 < objective.views.until < 1 and objective.coupling == Transport()
    assert [name for name, _, why in facts.choices if why == "asked for"][-3:] == [
        "training.crops", "training.route", "training.coupling",
    ]  # fmt: skip


def test_a_run_from_before_there_was_a_choice_shows_everything() -> None:
    before = build_objective(ObjectivePart(output="v", weight="output", timing="uniform"), TrainingPart())
    assert isinstance(before, Denoising)
    assert before.views.everything and before.coupling == Independent()
    assert Views().at(0.5) == EVERYTHING


def test_few_tokens_are_shown_whole_unless_asked(data: Path) -> None:
    part = planned(data).facts.recipe.training
    assert (part.crops, part.route, part.coupling) == (0.0, 0.0, "independent")


def test_pictures_of_many_tokens_are_learned_from_crops_too(tmp_path: Path) -> None:
    data = small.pictures(tmp_path / "large", side=32)
    found = planned(data, network__patch=4).facts
    assert found.recipe.training.crops == CROPS
    assert any(name == "training.crops" and value == CROPS for name, value, _ in found.choices)
    for leaves in (
        {"training__crops": 0.0}, {"objective": "elbo"}, {"objective__weight": "sigmoid"}, {"network__patch": 8},
        {"objective__output": "x"}, {"schedule": "learned"}, {"objective__timing": "entropy"},
    ):  # fmt: skip
        assert planned(data, **({"network__patch": 4} | leaves)).facts.recipe.training.crops == 0.0
    recipe = found.recipe.model_copy(update={"training": TrainingPart(batch=8), "init": "a run"})
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for device, samples, wanted in ((cpu, 1e3, CROPS), (cpu, 1e5, 0.0), (cpu, None, 0.0), (gpu, 1e3, 0.0)):
        assert choose_views(recipe, dict(found.network), device, samples)[0]["crops"] == wanted
    # Compiled would be each of its sizes.
    found = planned(data, network__patch=4, training__crops=0.5, budget="1h").facts
    assert any(name == "training.compile" and "shapes" in why for name, _, why in found.choices)


@pytest.mark.parametrize(
    ("leaves", "words"),
    [
        ({"training__route": 0.5}, "depth=3"),
        ({"training__route": 0.5, "network": "unet"}, "network=transformer"),
        ({"training__coupling": "nearest", "objective": "elbo"}, "bound"),
        ({"training__coupling": "transport", "objective__weight": "uniform"}, "bound"),
        ({"training__coupling": "transport", "objective__variance": "learned"}, "variances"),
        ({"training__coupling": "nearest", "objective__timing": "entropy"}, "entropy"),
        ({"training__coupling": "nearest", "schedule": "learned"}, "no schedule"),
        ({"training__crops": 1.0}, "training.crops"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(data: Path, leaves: dict[str, Any], words: str) -> None:
    if leaves.get("network") == "unet":
        leaves = UNET | leaves
    with pytest.raises(UserError, match=words):
        planned(data, **leaves)


def test_a_run_on_crops_samples_whole_pictures_and_gives_its_seeds_bits_again(
    data: Path, tmp_path: Path
) -> None:
    leaves = UNET | {
        "training.crops": 0.5,
        "training.coupling": "transport",
        "budget": "3steps",
        "sampling.steps": 1,
    }
    runs = [small.session(data, tmp_path / str(i), **leaves) for i in range(2)]
    for one in runs:
        for _ in one.steps():
            pass
        one.write_weights("now")
    first, second = (one.run for one in runs)
    assert (
        first.facts.network["coordinates"]
        and first.model.state_dict()["network.unet.conv_in.weight"].shape[1] == 3
    )
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
    assert first.sample(2, steps=2, seed=1).x.shape == (2, 1, 8, 8)
    with pytest.raises(UserError, match="crops"):
        export(first, "diffusers", tmp_path / "out")
    assert kuosan.load(first.path).facts.network == first.facts.network
