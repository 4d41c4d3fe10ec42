"""Runs with captions: what is asked for is heard, alone and in company, and every verb goes on with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import kuosan
from kuosan.cli import main
from kuosan.errors import UserError
from kuosan.evaluation.evaluate import Evaluation
from kuosan.guidance.classifier_free import ClassifierFree
from kuosan.recipes import distil, lessons
from kuosan.recipes.adapted import Adapted, weighted
from kuosan.recipes.evaluate import data_of
from kuosan.recipes.heard import captioned as captioned_items
from kuosan.recipes.heard import section, with_recall
from kuosan.recipes.opening import prepare
from kuosan.recipes.schema import Recipe
from tests.modalities.sounds import tones
from tests.recipes import captioned

STEPS = 200
ASKED = [("red", "blue"), ("blue", "red"), ("green", "white"), ("black", "yellow")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioned.pictures(tmp_path_factory.mktemp("data") / "halves")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> kuosan.Run:
    """To be read only."""
    out = tmp_path_factory.mktemp("runs") / "halves"
    return captioned.trained(captioned.session(data, out, budget=f"{STEPS}steps"))


def test_captions_are_obeyed(run: kuosan.Run) -> None:
    texts = [captioned.caption(*pair) for pair in ASKED]
    x = run.sample(32, steps=8, where={"caption": texts}, w=2.0).x
    for k, (above, below) in enumerate(ASKED):
        for half, name in ((slice(0, 4), above), (slice(4, 8), below)):
            mean = (x[k::4, :, half].mean((0, 2, 3)) + 1) * 127.5
            gaps = {c: float((mean - torch.tensor(v)).norm()) for c, v in captioned.COLOURS.items()}
            assert min(gaps, key=lambda c: gaps[c]) == name


def test_a_sample_is_the_same_whatever_its_neighbours_and_their_captions(run: kuosan.Run) -> None:
    long = "a red half above a blue half and another red half above a blue half"
    texts = ["red", long, captioned.caption("green", "white")]
    whole = run.sample(9, steps=3, seed=3, where={"caption": texts})
    for i in range(9):
        alone = run.sample(1, steps=3, seed=3, first=i, where={"caption": texts[i % 3]})
        assert torch.equal(alone.cond["caption"], whole.cond["caption"][i : i + 1])
        assert float((alone.x - whole.x[i : i + 1]).abs().max()) < 1e-5
    assert whole.columns()["caption"][2] == texts[2]
    exact = run.sample(1, steps=3, seed=3, first=4, exact=True, where={"caption": texts})
    assert torch.equal(exact.x[0], run.sample(9, steps=3, seed=3, exact=True, where={"caption": texts}).x[4])


def test_without_a_wish_captions_come_as_in_training(run: kuosan.Run) -> None:
    drawn = run.sample(40, steps=2).columns()["caption"]
    assert run.captions is not None
    assert set(drawn) <= {text for text, _ in run.captions.items} and len(set(drawn)) > 10


def test_a_hidden_caption_is_the_unconditional_model(run: kuosan.Run) -> None:
    x, t = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((4,), 0.6)
    rows = run.conditions(0, range(4), {"caption": "a red half above a blue half"})
    model, null = run.denoiser, run.facts.null
    plain, asked = model(x, t).mean, model(x, t, **rows).mean
    assert torch.allclose(model(x, t, **run.facts.hidden(4)).mean, plain, atol=1e-6)
    assert torch.allclose(ClassifierFree(model, 0.0, null)(x, t, **rows).mean, plain, atol=1e-6)
    assert torch.allclose(
        ClassifierFree(model, 3.0, null)(x, t, **rows).mean, plain + 3 * (asked - plain), atol=1e-5
    )
    assert float((asked - plain).abs().max()) > 0.05


def test_captions_are_found_again_and_shown_beside_the_real_items(run: kuosan.Run) -> None:
    data, nothing = data_of(run), Evaluation({}, (), {}, {}, {})
    told = with_recall(nothing, run, data, seconds=0.3, most=60, w=2.0).metrics
    sizes = [int(name.rpartition("_")[2]) for name in told]
    assert sizes[0] == 10 and sizes[1] == len(set(data.val.captions))
    for k, m in zip(sizes, told.values(), strict=True):
        assert m.n >= 36 and m.stderr is not None and m.floor is not None and m.floor > 3 / k
        assert m.value > 3 / k and f"chance is {1 / k:.3f}" in m.note
    (shown,) = section(run, data.val)
    assert [text for text, _ in shown.figures] == [data.val.captions[i] for i in captioned_items(data.val, 6)]


def test_the_choice_is_saved_and_read_again(run: kuosan.Run) -> None:
    assert ["captions", "caption"] in [list(c[:2]) for c in run.facts.choices]
    assert {"tokenizer.json", "captions.json"} <= {p.name for p in run.path.iterdir()}
    again = kuosan.load(run.path).captions
    assert run.captions is not None and again is not None
    assert again.items == run.captions.items and again.words == run.captions.words
    recipe = run.facts.recipe  # resolved, so that it says the same without the data
    assert (
        recipe.data.caption == "caption"
        and recipe.caption.length == again.length
        and recipe.caption.thin == 0
    )
    assert recipe.caption.vocabulary == again.tokeniser.size and recipe.caption.dim == 32


def test_a_student_and_a_fine_tuned_run_hear_captions(
    run: kuosan.Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "CHUNK", 8)
    where = {"caption": ["a red half above a blue half", "a blue half above a red half"]}
    student = distil.prepare(run, 1, budget="4steps", w=2.0, out=tmp_path / "student")
    words = {"init": str(run.path), "adapter.rank": 2, "adapter.prior": 0.0, "training.batch": 8}
    words |= {"training.validations": 1, "budget": "4steps"}
    tuned = prepare(data, out=tmp_path / "tuned", recipe=Recipe().updated(words), asked=words)
    student.learn()
    for one in map(captioned.trained, (student, tuned)):
        a = one.sample(6, where=where)
        assert a.columns()["caption"][:2] == where["caption"]
        assert float((a.x[:2] - one.sample(2, where={"caption": "white"}).x).abs().max()) > 1e-3
        assert one.captions is not None and run.captions is not None
        assert one.captions.tokeniser.to_json() == run.captions.tokeniser.to_json()


def test_captions_keep_their_classes_where_a_run_learns_new_ones(tmp_path: Path) -> None:
    def classed(name: str, kinds: tuple[str, ...]) -> Path:
        folder = captioned.pictures(tmp_path / name, 90)
        rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
        for i, row in enumerate(rows):
            row |= {"kind": kinds[i % len(kinds)], "text": f"{row['text']} of {kinds[i % len(kinds)]}"}
        (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return folder

    base = captioned.trained(
        captioned.session(classed("a", ("ink", "oil")), tmp_path / "base", budget="1steps")
    )
    drawn = base.conditions(0, range(30))
    said = [base.facts.columns["kind"][i] for i in drawn["kind"].tolist()]
    assert base.captions is not None
    texts = [base.captions.text(row) for row in drawn["caption"].tolist()]
    assert (
        all(str(text).endswith(kind) for text, kind in zip(texts, said, strict=True)) and len(set(said)) == 2
    )
    oil = base.conditions(0, range(9), {"kind": "oil"})["caption"].tolist()
    assert all(str(base.captions.text(row)).endswith("oil") for row in oil)

    words = {"init": str(base.path), "adapter.rank": 2, "adapter.prior": 0.0, "budget": "1steps"}
    recipe = Recipe().updated(words)
    tuned = captioned.trained(
        prepare(classed("b", ("wax", "oil")), out=tmp_path / "tuned", recipe=recipe, asked=words)
    )
    assert set(tuned.facts.columns["kind"]) == {"ink", "oil", "wax"} and tuned.captions is not None
    drawn = tuned.conditions(0, range(30))
    said = [tuned.facts.columns["kind"][i] for i in drawn["kind"].tolist()]
    texts = [tuned.captions.text(row) for row in drawn["caption"].tolist()]
    assert set(said) == {"oil", "wax"}
    assert all(str(text).endswith(kind) for text, kind in zip(texts, said, strict=True))
    both = Adapted(base, weighted([str(tuned.path)]))
    drawn = both.conditions(0, range(30))
    assert {both.facts.columns["kind"][i] for i in drawn["kind"].tolist()} == {"ink", "oil"}
    assert (
        both.sample(2, steps=1, where={"kind": "wax", "caption": "a red half"}).columns()["kind"]
        == ["wax"] * 2
    )


def test_items_bring_their_captions_to_noise_and_back(run: kuosan.Run, data: Path) -> None:
    noise = run.encode(data, 3, steps=6)
    assert noise.cond["caption"].shape == (3, run.facts.network["captions"]["length"])
    a, b = data / "000.png", data / "001.png"
    way = run.interpolate(a, b, 3, steps=3, where={"caption": "a red half above a blue half"})
    assert way.columns()["caption"] == ["a red half above a blue half"] * 3


def _called(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main([*words])
    return status, *capsys.readouterr()


def test_the_command_line_takes_captions_and_says_which_words_are_new(
    run: kuosan.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "--where",
        "caption=a red half above a blue half",
        "caption=a purple half",
        "--steps",
        "2",
        "--json",
    ]
    status, out, err = _called("sample", str(run.path), *asked, "--out", str(tmp_path / "a"), capsys=capsys)
    told = json.loads(out)
    assert status == 0 and told["n"] == 2 and "'purple'" in err and "'red'" not in err
    assert told["conditions"]["caption"] == ["a red half above a blue half", "a purple half"]
    (tmp_path / "wishes.txt").write_text("a green half\n\na black half\na white half\n")
    words = [
        "--captions",
        str(tmp_path / "wishes.txt"),
        "--steps",
        "2",
        "--out",
        str(tmp_path / "b"),
        "--json",
    ]
    status, out, _ = _called("sample", str(run.path), *words, capsys=capsys)
    assert status == 0 and json.loads(out)["conditions"]["caption"] == [
        "a green half",
        "a black half",
        "a white half",
    ]
    status, _, err = _called("export", str(run.path), "--to", "diffusers", str(tmp_path / "c"), capsys=capsys)
    assert status == 2 and "captions" in err


def test_a_run_without_captions_says_so(data: Path, tmp_path: Path) -> None:
    run = captioned.trained(captioned.session(data, tmp_path / "run", budget="1steps", data__caption="none"))
    assert run.captions is None and not run.facts.null
    with pytest.raises(UserError, match="not a condition"):
        run.sample(1, where={"caption": "red"})


def test_a_u_net_hears_captions(data: Path, tmp_path: Path) -> None:
    words = {k: v for k, v in captioned.LEAVES.items() if not k.startswith("network")}
    words |= {"network": "unet", "network.base": 8, "network.mults": (1, 2), "network.blocks": 1}
    words |= {"training.batch": 4, "sampling.steps": 1, "training.validations": 1, "budget": "6steps"}
    run = captioned.trained(prepare(data, out=tmp_path / "a", recipe=Recipe().updated(words), asked=words))
    assert run.facts.network["kind"] == "residual-unet"
    asked, hidden = (run.sample(2, steps=2, where={"caption": text}).x for text in ("a red half", ""))
    assert not torch.equal(asked, hidden)


def test_a_run_that_was_killed_goes_on_to_the_same_bits(data: Path, tmp_path: Path) -> None:
    leaves = {"training__batch": 4, "sampling__steps": 1, "training__validations": 1, "budget": "4steps"}
    whole = captioned.trained(captioned.session(data, tmp_path / "a", **leaves))
    cut = captioned.session(data, tmp_path / "b", **leaves)
    for event in cut.steps():
        if event.step == 2:
            cut.training.save()
            break
    again = captioned.trained(captioned.session(data, tmp_path / "b", **leaves))
    a, b = (one.sample(2, where={"caption": "a red half"}).x for one in (whole, again))
    assert torch.equal(a, b)


def test_sounds_hear_captions_as_pictures_do(tmp_path: Path) -> None:
    folder = tones(tmp_path / "tones", count=40, seconds=0.1)
    names = sorted(p.name for p in folder.rglob("*.wav"))
    for k, path in enumerate(sorted(folder.rglob("*.wav"))):
        path.with_suffix(".txt").write_text(f"a tone that is number {k} of {len(names)}")
    leaves = {name: value for name, value in captioned.LEAVES.items() if name != "network.patch"}
    leaves |= {
        "data.vocoder": 0,
        "network.dim": 32,
        "training.batch": 4,
        "sampling.steps": 1,
        "budget": "2steps",
    }
    run = captioned.trained(
        prepare(folder, out=tmp_path / "run", recipe=Recipe().updated(leaves), asked=leaves)
    )
    assert run.captions is not None and run.modality.name == "audio"
    one = run.sample(2, where={"caption": ["a tone", "number 7"]})
    assert one.columns()["caption"] == ["a tone", "number 7"]


@pytest.mark.foreign_rng("transformers draws a tiny BERT's weights")
def test_a_text_encoder_of_hugging_face_is_heard_and_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "above", "half", *captioned.COLOURS]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    folder = tmp_path / "bert"
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(folder)
    before = (folder / "model.safetensors").read_bytes()
    run = captioned.trained(
        captioned.session(data, tmp_path / "run", budget="2steps", caption__encoder=str(folder))
    )
    assert (folder / "model.safetensors").read_bytes() == before
    assert not any("frozen" in name or "bert" in name for name in run.model.state_dict())
    rows = run.conditions(0, range(1), {"caption": "a red half"})["caption"]
    ids = [words.index(w) for w in ("[CLS]", "a", "red", "half", "[SEP]")]
    assert rows[0, :5].tolist() == ids and set(rows[0, 5:].tolist()) == {run.facts.null["caption"]}
    model = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(input_ids=torch.tensor([ids])).last_hidden_state
    heard = run.denoiser.network.captions.frozen(rows, run.facts.null["caption"])  # type: ignore[union-attr]
    assert torch.allclose(heard[:, :5], states, atol=1e-5) and not heard[:, 5:].any()
    x = run.sample(2, steps=2, where={"caption": ["a red half", "a blue half above a red half"]}).x
    assert np.isfinite(x.numpy()).all()
    (folder / "model.safetensors").write_bytes(before[:-4] + bytes(4))
    with pytest.raises(UserError, match="not the one"):
        kuosan.load(run.path).sample(1, steps=2, where={"caption": "a red half"})
