"""The recipe: leaves by their names, values by their kinds, all of it through YAML and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import kuosan
from kuosan.errors import UserError
from kuosan.recipes.build import build_denoiser, build_objective, build_schedule, build_settings
from kuosan.recipes.facts import Facts
from kuosan.recipes.schema import (
    ObjectivePart,
    Recipe,
    SchedulePart,
    TrainingPart,
    fingerprint,
    leaf_names,
    parse,
    read_value,
    read_yaml,
)
from kuosan.training.budget import Budget
from kuosan.training.objective import WEIGHTS, Denoising
from tests.recipes import small


def leaf(recipe: Recipe, name: str) -> Any:
    part, _, rest = name.partition(".")
    value = getattr(recipe, part)
    return getattr(value, rest) if rest else value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 7),
        ("budget", "2h"),
        ("training.lr", 1e-3),
        ("training.batch", 16),
        ("network.kind", "unet"),
        ("network.mults", (1, 2, 2)),
        ("schedule.shift", 2.0),
        ("data.size", (32, 48)),
        ("sampling.w", 1.5),
    ],
)
def test_a_leaf_is_set_and_all_others_stay(name: str, value: Any) -> None:
    recipe = Recipe().updated({name: value})
    assert leaf(recipe, name) == value
    for other in leaf_names(Recipe):
        if other != name:
            assert leaf(recipe, other) == leaf(Recipe(), other)


@pytest.mark.parametrize(("part", "value"), [("network", "unet"), ("schedule", "edm"), ("objective", "elbo")])
def test_a_parts_name_alone_sets_its_kind(part: str, value: str) -> None:
    assert leaf(Recipe().updated({part: value}), f"{part}.kind") == value


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("training.learning", "training."),
        ("trainning.lr", "training.lr"),
        ("lr", "training.lr"),
        ("batch", "training.batch"),
        ("sampling.step", "sampling.steps"),
        ("network.dims", "network.dim"),
        ("sede", "seed"),
        ("network.dim.x", "network.dim"),
        ("seed.x", "seed"),
    ],
)
def test_an_unknown_leaf_names_its_neighbours(name: str, near: str) -> None:
    with pytest.raises(UserError, match="did you mean") as told:
        Recipe().updated({name: 1})
    assert near in str(told.value) and name in str(told.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("training.batch", "many"),
        ("training.warmup", 1.5),
        ("training.ema", 0.4),
        ("training.drop", -0.1),
        ("training.validations", 0),
        ("network", "cnn"),
        ("network.dim", "wide"),
        ("schedule.kind", "linear"),
        ("objective.output", "noise"),
        ("sampling.steps", 0),
        ("data.size", "large"),
        ("seed", "x"),
        ("training", 3),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_leaf(name: str, value: Any) -> None:
    with pytest.raises(UserError) as told:
        Recipe().updated({name: value})
    sentence = str(told.value)
    assert name.rpartition(".")[2] in sentence and "\n" not in sentence
    if isinstance(value, str) and name in ("network", "schedule.kind"):
        assert "transformer" in sentence or "cosine" in sentence  # what it can be


def test_a_recipe_in_a_file_may_not_hold_what_there_is_not() -> None:
    with pytest.raises(UserError, match=r"training.learning_rate"):
        parse(Recipe, {"training": {"learning_rate": 1e-3}})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-4", 1e-4),
        ("0.5", 0.5),
        ("unet", "unet"),
        ("[1, 2]", [1, 2]),
        ("true", True),
        ("null", None),
    ]
    + [("1e400x", "1e400x"), ("{", "{"), ("auto", "auto")],
)
def test_a_value_on_the_command_line_is_a_number_a_word_or_a_list(text: str, value: Any) -> None:
    assert read_value(text) == value and type(read_value(text)) is type(value)


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [", "just words", ""])
def test_a_file_that_is_no_recipe_is_told_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="r.yaml"):
        read_yaml(path)
    with pytest.raises(UserError, match="none.yaml"):
        read_yaml(tmp_path / "none.yaml")


def test_a_fingerprint_changes_with_any_leaf_and_not_with_the_order() -> None:
    prints = {
        fingerprint(Recipe().updated({k: v}).model_dump()) for k, v in (("seed", 1), ("training.clip", 2.0))
    }
    assert len(prints | {fingerprint(Recipe().model_dump())}) == 3
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})


def test_the_facts_of_a_run_come_through_yaml_unchanged(run: kuosan.Run, tmp_path: Path) -> None:
    facts = run.facts
    path = tmp_path / "recipe.yaml"
    path.write_text(facts.to_yaml(), encoding="utf-8")
    assert Facts.read(path) == facts
    odd = replace(
        facts,
        columns={"class": ["no", "1.0", "ünï", "", "a: b"]},
        class_names={"no": "never"},
        asked={"training.lr": 1e-5, "network.mults": [1, 2], "seed": 2**70},
        seconds=0.1 + 0.2,
    )
    path.write_text(odd.to_yaml(), encoding="utf-8")
    assert Facts.read(path) == odd


def test_a_recipe_of_another_version_or_with_something_missing_is_refused(
    run: kuosan.Run, tmp_path: Path
) -> None:
    tree = yaml.safe_load(run.facts.to_yaml())
    path = tmp_path / "recipe.yaml"
    for change, words in (
        ({"format": 99}, "format 99"),
        ({"frequencies": 3}, "recipe.yaml"),
        ({"columns": None}, ""),
    ):
        broken = {**tree, **change}
        if change == {"columns": None}:
            del broken["columns"]
            words = "columns"
        path.write_text(yaml.safe_dump(broken), encoding="utf-8")
        with pytest.raises(UserError, match=words):
            Facts.read(path)


def test_weights_depend_on_the_seed_and_only_on_it(run: kuosan.Run) -> None:
    r = run.facts.recipe

    def weights(seed: int) -> list[bytes]:
        model = build_denoiser(run.facts.network, r.updated({"seed": seed}))
        return [p.detach().numpy().tobytes() for p in model.parameters()]

    assert weights(3) == weights(3)
    for other in (4, -3, 3 + 2**32, 3 + 2**40):
        assert weights(3) != weights(other)


def test_an_elbo_is_the_uniform_weight() -> None:
    for weight in WEIGHTS:
        part = ObjectivePart(weight=weight, timing="lognormal")  # type: ignore[arg-type]
        assert build_objective(part).weight == weight  # type: ignore[attr-defined]
        bound = build_objective(part.model_copy(update={"kind": "elbo"}))
        assert isinstance(bound, Denoising) and bound.weight == "uniform"


def test_the_settings_are_the_parts_leaves() -> None:
    chosen = {
        "precision": "bfloat16", "layout": "channels_last", "compile": True, "optimizer": "muon", "micro": 4,
    }  # fmt: skip
    chosen |= {"batch": 16, "lr": 1e-3, "warmup": 0.1, "decay": 0.3, "ema": 0.05, "drop": 0.2, "patience": 0}
    part = TrainingPart(**chosen, weight_decay=0.2)  # type: ignore[arg-type]
    settings = build_settings(part, 5, Budget(images=1000), None)
    assert (settings.seed, settings.batch, settings.steps, settings.seconds) == (5, 16, 63, None)
    others = {
        "augment",
        "augment_p",
        "crops",
        "route",
        "coupling",
        "given",
        "best",
    }  # the data's, the objective's, and the watch's
    for name, value in part.model_dump(exclude=others).items():
        assert getattr(settings, name) == value
    plain = build_settings(TrainingPart(batch=16, lr=1e-3), 5, Budget(steps=1), None)
    assert (plain.precision, plain.layout, plain.compile, plain.optimizer) == (
        "float32", "contiguous", False, "adamw",
    )  # fmt: skip
    assert plain.weight_decay == 0.01 and plain.ema is None, "chosen when training has ended"


def test_a_learned_schedule_takes_only_weights_that_it_cannot_cheat(data: Path, tmp_path: Path) -> None:
    learned = small.session(data, tmp_path / "a", schedule="learned")
    assert learned.facts.recipe.objective.weight == "sigmoid"
    assert len(list(build_schedule(learned.facts.recipe.schedule).parameters())) == 1
    with pytest.raises(UserError, match="learned schedule.*objective.weight=sigmoid"):
        small.session(data, tmp_path / "b", schedule="learned", objective__weight="output")
    assert not (tmp_path / "b").exists()


def test_a_shift_lowers_the_log_snr() -> None:
    import torch

    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    plain = build_schedule(SchedulePart(kind="cosine", shift=1.0))
    shifted = build_schedule(SchedulePart(kind="cosine", shift=2.0))
    fall = 2 * torch.log(torch.tensor(2.0, dtype=torch.float64))
    assert torch.allclose(plain.log_snr(t) - shifted.log_snr(t), fall.expand(9))


# -- what a checkpoint depends on ---------------------------------------------------------------------------


def test_a_leaf_that_a_later_version_adds_changes_no_identity() -> None:
    """A run of a version that did not know a leaf has it at its default, and its identity does not show it."""
    recipe = Recipe().updated({"training.lr": 1e-3, "network.kind": "unet", "network.mults": (1, 2)})
    found = recipe.identity(set())
    assert {k: set(v) for k, v in found.items()} == {"training": {"lr"}, "network": {"kind", "mults"}}
    written = yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json")))
    for part in written.values():  # as older versions wrote it: without leaves that came since
        for name in ("micro", "shard", "optimizer", "dropout") if isinstance(part, dict) else ():
            part.pop(name, None)
    assert fingerprint(parse(Recipe, written).identity(set())) == fingerprint(found)


OTHERS: dict[str, Any] = {
    "training.lr": 0.5, "training.batch": 3, "training.ema": 0.2, "network.kind": "unet", "network.mults": (1, 3),
    "schedule.kind": "edm", "objective.output": "x", "process.kind": "masked", "noise.df": 9.0, "codec.crop": 7,
    "seed": 4, "budget": "3m", "init": "x", "training.precision": "bfloat16", "training.drop": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_leaf_that_matters_changes_the_identity(name: str) -> None:
    other = Recipe().updated({name: OTHERS[name]})
    assert fingerprint(other.identity({"data", "sampling"})) != fingerprint(
        Recipe().identity({"data", "sampling"})
    )


@pytest.mark.parametrize(
    "name, value",
    [("training.micro", 3), ("training.shard", "full"), ("sampling.steps", 99), ("data.path", "x")],
)
def test_how_a_batch_is_divided_and_what_comes_later_does_not(name: str, value: Any) -> None:
    other = Recipe().updated({name: value})
    assert other != Recipe()
    assert fingerprint(other.identity({"data", "sampling"})) == fingerprint(
        Recipe().identity({"data", "sampling"})
    )
