"""Little data: decided by passes, said in the choices, and refused where it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.networks.conditions import AUGMENT
from kuosan.recipes.scarce import MANY, augmentation_of, choose_scarce, of_tokens
from kuosan.recipes.schema import Recipe, TrainingPart
from kuosan.training.augment import KINDS, WIDTH
from tests.recipes import small

NETWORK = {"kind": "transformer"}


def choose(
    passes: float | None, network: dict[str, Any] | None = None, fixed: str = "", **leaves: Any
) -> Any:
    recipe = Recipe().updated({k.replace("__", "."): v for k, v in leaves.items()})
    return choose_scarce(recipe, network or NETWORK, 60, passes, fixed=fixed)


def test_many_passes_turn_everything_on_and_few_nothing() -> None:
    leaves, more, reasons = choose(MANY + 1)
    assert leaves == {"weight_decay": 0.1, "augment": "+".join(KINDS)}
    assert more == {"dropout": 0.0, "augment": WIDTH}
    assert {name for name, _, why in reasons if "301 passes over 60 items" in why} == {
        "dropout", "training.weight_decay", "training.augment",
    }  # fmt: skip
    _, more, _ = choose(MANY + 1, fixed="these are sounds")
    assert more == {"dropout": 0.1}, "where pictures cannot be augmented"
    for passes in (MANY, None):
        leaves, more, _ = choose(passes)
        assert leaves == {"weight_decay": 0.01, "augment": "none"} and more == {"dropout": 0.0}


def test_what_is_asked_for_stands() -> None:
    leaves, more, reasons = choose(
        5000.0, training__augment="flip+shift", training__weight_decay=0.03, network__dropout=0.2
    )
    assert leaves == {"weight_decay": 0.03, "augment": "flip+shift"}
    assert more == {"dropout": 0.2, "augment": WIDTH}
    assert {why for _, _, why in reasons} == {"asked for"}


@pytest.mark.parametrize(
    ("leaves", "options", "words"),
    [
        ({"training__augment": "filp"}, {}, "did you mean flip"),
        ({"training__augment": "flip+zoom"}, {}, "unknown kind 'zoom'"),
        ({"training__augment": "flip"}, {"fixed": "these are sounds"}, "these are sounds"),
        ({"training__augment": "flip", "init": "a"}, {}, "network of a was never told"),
    ],
)
def test_what_cannot_be_is_refused(leaves: dict[str, Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        choose(10.0, **options, **leaves)


def test_a_network_that_was_told_before_goes_on_being_told() -> None:
    network = {"kind": "unet", "augment": WIDTH, "dropout": 0.1}
    leaves, more, _ = choose(10.0, network, init="a")
    assert leaves["augment"] == "none" and more == {"dropout": 0.1}
    leaves, _, _ = choose(1e3, network, init="a")
    assert leaves["augment"] == "+".join(KINDS)


def test_texts_have_ways_of_their_own() -> None:
    assert of_tokens(TrainingPart(), "texts", "words") == {"weight_decay": 0.01, "augment": "none"}
    with pytest.raises(UserError, match="data.synonyms"):
        of_tokens(TrainingPart(augment="flip"), "texts", "data.synonyms")


def test_a_session_of_many_passes_augments_and_its_held_out_items_stay(data: Path, tmp_path: Path) -> None:
    one = small.session(data, tmp_path / "many", budget="2000steps")
    assert one.facts.network["augment"] == WIDTH and one.facts.recipe.training.weight_decay == 0.1
    how = augmentation_of(one.facts.recipe.training)
    assert how is not None and how.kinds == KINDS
    _, cond = one.training.train.batch(torch.arange(8), Seeds.of(0, 8))
    assert cond[AUGMENT].shape == (8, WIDTH)
    assert AUGMENT not in one.training.val.batch(torch.arange(2))[1]
    losses = [event.loss for event, _ in zip(one.steps(), range(2), strict=False)]
    assert len(losses) == 2
    few = small.session(data, tmp_path / "few", budget="20steps")
    assert "augment" not in few.facts.network and few.facts.recipe.training.augment == "none"
