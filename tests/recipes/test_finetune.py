"""Adapters on a run: the old run stays, weights add up, the new run is one like any other and goes on exactly."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import kuosan
from kuosan.adapt.rehearsal import Rehearsed, Weighed, rehearsed
from kuosan.core.random import Seeds
from kuosan.core.shapes import as_time
from kuosan.errors import UserError
from kuosan.recipes import adapters, report_drift
from kuosan.recipes.adapted import Adapted, Weighted, weighted
from kuosan.recipes.cite import citations
from kuosan.recipes.distil import prepare as prepare_student
from kuosan.recipes.export import export
from kuosan.recipes.finetune import prepare
from kuosan.recipes.opening import reopen
from kuosan.recipes.session import Session
from kuosan.training import checkpoint
from kuosan.training.objective import Denoising
from tests.recipes import small

peft = pytest.importorskip("peft", reason="the extra 'adapters' is not installed")
ASKED = {
    "budget": "12steps",
    "seed": 0,
    "training.batch": 8,
    "training.validations": 2,
    "adapter.targets": "all",
}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def tensors(path: Path) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in checkpoint.load(path / "checkpoints" / "last")[0].items()}


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in two classes: one that ramps have too, and a new one."""
    folder = tmp_path_factory.mktemp("data") / "noises"
    rng = np.random.Generator(np.random.Philox(key=9))
    for name in ("steep", "rough"):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            pixels = (255 * rng.random((8, 8))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def tuned(run: kuosan.Run, noises: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """Ramps that became noise; to be read only."""
    before = bytes_of(run.path)
    leaves = {k.replace(".", "__"): v for k, v in ASKED.items() if k not in ("seed", "budget")}
    found = run.finetune(noises, budget="12steps", out=tmp_path_factory.mktemp("runs") / "tuned", **leaves)
    assert bytes_of(run.path) == before, "the old run is never changed"
    return found


def test_it_is_a_run_of_its_own(run: kuosan.Run, tuned: kuosan.Run) -> None:
    assert {p.name for p in tuned.path.iterdir()} >= {
        "recipe.yaml", "model.safetensors", "metrics.jsonl", "report.html", "README.md", "samples", "adapter",
        "checkpoints",
    }  # fmt: skip
    facts = tuned.facts
    assert facts.recipe.init == str(run.path.resolve()) and facts.recipe.adapter.rank == 4
    assert facts.columns == {"class": ["rough", "steep", "flat", "wide"]}, (
        "the new values first, then the old"
    )
    assert (
        tuned.sample(2, where={"class": "rough"}).x.shape == tuned.sample(2, where={"class": "wide"}).x.shape
    )
    told = json.loads((tuned.path / "summary.json").read_text())["drift"]
    assert set(told["held_out_loss"]) == {"the new data", "the old data"}
    for both in told["held_out_loss"].values():
        assert both["before"]["n"] == both["after"]["n"] > 0
    assert told["samples"]["value"] > 0
    page = (tuned.path / "report.html").read_text(encoding="utf-8")
    assert "What became of the old model" in page and "finetune" in page
    assert all(key in str(citations(tuned)) for key in ("hu2022", "ruiz2023"))


def test_weights_of_adapters_add(run: kuosan.Run, tuned: kuosan.Run, tmp_path: Path) -> None:
    folder = tuned.path / "adapter"
    own = run.model.state_dict()

    def put(*pairs: tuple[Path, float]) -> Adapted:
        return Adapted(run, [Weighted(*pair) for pair in pairs])

    # weight 0 is the base, to the bit
    none = put((folder, 0.0))
    for name, value in own.items():
        if "table" not in name:
            assert torch.equal(none.model.state_dict()[name], value), name
    assert torch.equal(none.sample(3, where={"class": "wide"}).x, run.sample(3, where={"class": "wide"}).x)
    assert torch.equal(none.sample(3, seed=4).x, run.sample(3, seed=4).x)
    # weight 1 is the merged model; its values are numbered otherwise
    one = put((folder, 1.0))
    merged = tuned.model.state_dict()
    for name, value in one.model.state_dict().items():
        if "table" not in name:
            assert torch.allclose(value, merged[name], atol=1e-5), name
    how = {"solver": "ddim", "grid": "uniform"}
    for word in ("rough", "steep", "wide"):
        mine, theirs = (r.sample(3, where={"class": word}, **how).x for r in (one, tuned))
        assert torch.allclose(mine, theirs, atol=1e-4), word
    # two adapters add linearly, a negative weight takes away
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    half, both = put((folder, 0.5)), put((folder, 0.75), (other, -0.25))
    for name, value in half.model.state_dict().items():
        assert torch.allclose(value, both.model.state_dict()[name], atol=1e-6), name
        if name in own and "table" not in name:
            assert torch.allclose(value, (own[name] + merged[name]) / 2, atol=1e-6), name


def test_peft_knows_the_adapter(run: kuosan.Run, tuned: kuosan.Run) -> None:
    config = peft.PeftConfig.from_pretrained(str(tuned.path / "adapter"))
    assert config.r == 4 and config.base_model_name_or_path == str(run.path.resolve())


@pytest.mark.parametrize("stop", [0, 5])
def test_killed_and_gone_on_with_it_ends_with_the_same_bits(
    run: kuosan.Run, noises: Path, tuned: kuosan.Run, tmp_path: Path, stop: int
) -> None:
    def walk(session: Session, stop: int | None = None) -> None:
        session.training.settings = replace(session.training.settings, save_seconds=0.0)
        for event in session.steps():
            if stop is not None and event.step > stop:
                return

    out = tmp_path / "cut"
    session = prepare(run, noises, out=out, asked=ASKED)
    if stop:
        walk(session, stop)
    else:  # killed when the old model has drawn its samples; what that took is counted once
        session.rehearse()
        session.rehearse()
        assert session.adapter is not None and session.adapter.seconds > 0
        assert (
            session.adapter.left(100.0) == 100.0 - session.adapter.seconds
            and session.adapter.left(None) is None
        )
    again = reopen(out) if stop else prepare(run, noises, out=out, asked=ASKED)
    assert again.resumed == bool(stop)
    walk(again)
    assert tensors(out) == tensors(tuned.path)


def test_without_conditions_nothing_is_rehearsed_and_old_ones_stay(
    run: kuosan.Run, noises: Path, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(noises / "rough", flat)
    session = prepare(run, flat, asked=ASKED, out=tmp_path / "run")
    assert session.facts.recipe.adapter.prior == 0 and session.facts.columns == run.facts.columns
    assert session.data.train.labels["class"].unique().tolist() == [3]


def test_other_verbs_take_it(tuned: kuosan.Run, noises: Path, tmp_path: Path) -> None:
    further = prepare(tuned, noises, asked=ASKED | {"adapter.rank": 2}, out=tmp_path / "further")
    assert further.facts.recipe.adapter.base == adapters.digest(tuned.model.state_dict())
    student = prepare_student(tuned, 1, budget="12steps", out=tmp_path / "student")
    assert student.facts.recipe.adapter.rank == 0 and student.adapter is None
    export(tuned, "diffusers", tmp_path / "exported")


def test_what_is_rehearsed_and_how_much_it_counts() -> None:
    class Ones:
        def __len__(self) -> int:
            return 9

        def batch(self, index: torch.Tensor, seeds: Seeds | None = None) -> Any:
            return torch.ones(len(index), 2), {"class": torch.zeros(len(index), dtype=torch.int64)}

    items = Rehearsed(Ones(), 0.25)
    items.fill(torch.full((5, 2), 7.0), {"class": torch.arange(1, 6)})
    seeds = Seeds.of(1, 4000)
    x, cond = items.batch(torch.zeros(4000, dtype=torch.int64), seeds.fold("items"))
    old = rehearsed(seeds, 0.25)
    assert torch.equal(x[:, 0] == 7, old) and torch.equal(cond["class"] > 0, old)
    assert abs(float(old.double().mean()) - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert cond["class"][old].unique().tolist() == [1, 2, 3, 4, 5]
    assert torch.equal(items.batch(torch.arange(3))[0], torch.ones(3, 2)), "held-out items stay as they are"


def test_losses_of_the_old_count_by_their_weight(run: kuosan.Run) -> None:
    plain, seeds = Denoising("output"), Seeds.of(2, 64)
    x = run.sample(64).x
    found, twice = (o.draw(run.model, x, seeds).losses for o in (plain, Weighed(plain, 0.5, 3.0)))
    old = rehearsed(seeds, 0.5)
    assert torch.equal(twice[~old], found[~old]) and torch.allclose(twice[old], 3 * found[old])
    u = as_time(0.3, 64)
    asked = [o.judged().at_quantiles(run.model, x, u, seeds) for o in (plain, Weighed(plain, 0.5, 3.0))]
    assert torch.equal(*asked), "held-out items are asked as ever"


def test_drift_is_nothing_for_the_same_and_one_for_another_seed() -> None:
    old = Seeds.of(0, 400).normal(torch.empty(400, 1, 4, 4))
    assert report_drift.relative(old, old, discrete=False)[0] == 0
    value, stderr = report_drift.relative(old, Seeds.of(9, 400).normal(old), discrete=False)
    assert abs(value - 1) < 4 * stderr + 0.02
    half, _ = report_drift.relative(old, old + (old.roll(1, 0) - old) / 2, discrete=False)
    assert half == pytest.approx(0.5)
    tokens = (5 * Seeds.of(1, 300).uniform(torch.empty(300, 20))).long()
    assert report_drift.relative(tokens, tokens.roll(1, 0), discrete=True)[0] == pytest.approx(1)


def test_conditions_of_other_vocabularies() -> None:
    given = {"class": torch.tensor([0, 1, 2])}  # a, b, unknown
    old, new = {"class": ["a", "b"]}, {"class": ["z", "b", "a"], "hue": ["red"]}
    found = adapters.renumbered(given, old, new, 3, {"class": {1}})
    assert found["class"].tolist() == [2, 3, 3] and found["hue"].tolist() == [1, 1, 1]


def test_without_peft_it_says_what_to_install(
    run: kuosan.Run, noises: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"install it with `pip install 'kuosan\[adapters\]'`"):
        prepare(run, noises, out=tmp_path / "a", asked=ASKED)
    assert not (tmp_path / "a").exists()


def test_sentences(run: kuosan.Run, tuned: kuosan.Run, noises: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="whose weights are others"):
        Adapted(tuned, [Weighted(tuned.path / "adapter", 1.0)])
    with pytest.raises(UserError, match="is no adapter"):
        Adapted(run, [Weighted(noises, 1.0)])
    with pytest.raises(UserError, match="no number after its colon"):
        weighted(["somewhere:else"])
    with pytest.raises(UserError, match="there is no adapter at"):
        weighted(["nowhere"])
    assert weighted([f"{tuned.path}:0.5"]) == [Weighted(tuned.path / "adapter", 0.5)]
    with pytest.raises(UserError, match="needs a model to adapt"):
        small.session(noises, tmp_path / "a", adapter__rank=2)
    with pytest.raises(UserError, match="is no adapter: train all weights"):
        prepare(run, noises, out=tmp_path / "b", asked=ASKED | {"adapter.rank": 0})
    with pytest.raises(UserError, match="names no layer"):
        prepare(run, noises, out=tmp_path / "e", asked=ASKED | {"adapter.targets": "none"})
    assert not (tmp_path / "e").exists(), "nothing is left of what cannot be"
    (tmp_path / "colour").mkdir()
    for i in range(9):
        Image.new("RGB", (8, 8), (9 * i, 200, 0)).save(tmp_path / "colour" / f"{i}.png")
    with pytest.raises(UserError, match="holds pictures in RGB and .* in L"):
        prepare(run, tmp_path / "colour", out=tmp_path / "d", asked=ASKED)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("words " * 100)
    with pytest.raises(UserError, match="image"):
        prepare(run, tmp_path / "texts", out=tmp_path / "c", asked=ASKED)
