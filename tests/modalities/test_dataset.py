"""The data set: the split never lets a copy cross, counts follow the rule, and nothing depends on order."""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kuosan.errors import UserError
from kuosan.modalities import load, resolve
from kuosan.modalities.columns import choose_columns, number_columns
from kuosan.modalities.image_gather import content_hash
from kuosan.modalities.split import held_out_count, plan_split


def digest(value: int) -> bytes:
    return hashlib.sha256(str(value).encode()).digest()


def write_pictures(folder: Path, names: list[str], seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 6)).astype(np.uint8)).save(folder / name)


@pytest.mark.parametrize(
    ("n", "held"), [(1, 0), (2, 1), (9, 1), (319, 32), (320, 32), (640, 32), (1000, 50), (12_000, 600)]
)
def test_counts_follow_the_rule(n: int, held: int) -> None:
    plan = plan_split([digest(i) for i in range(n)], [()] * n, [""] * n, [str(i) for i in range(n)])
    assert held_out_count(n) == held == len(plan.val) and len(plan.train) == n - held


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(-1, 2)), min_size=1, max_size=80), st.randoms())
def test_copies_never_straddle_whatever_the_order(items: list[tuple[int, int]], random: object) -> None:
    hashes, labels = [digest(c) for c, _ in items], [(label,) for _, label in items]
    plan = plan_split(hashes, labels, [""] * len(items), [str(i) for i in range(len(items))])
    train, val = {hashes[i] for i in plan.train}, {hashes[i] for i in plan.val}
    assert not train & val and train | val == set(hashes) and plan.train
    kept = [(items[i][0], items[i][1]) for i in plan.train + plan.val]
    assert all(count == 1 for count in Counter(kept).values()), "a copy of the same class was kept"
    assert len(kept) + plan.duplicates["removed_from_training"] == len(items)
    assert plan.duplicates["extra_copies"] == len(items) - len(set(hashes))
    shuffled = items.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = plan_split(
        [digest(c) for c, _ in shuffled], [(y,) for _, y in shuffled], [""] * len(items), [""] * len(items)
    )
    assert {shuffled[i][0] for i in again.val} == {items[i][0] for i in plan.val}


@given(st.lists(st.integers(0, 60), min_size=2, max_size=90), st.integers(1, 12))
def test_groups_are_never_divided(contents: list[int], count: int) -> None:
    hashes, groups = [digest(c) for c in contents], [digest(-1 - c % count) for c in contents]
    n = len(contents)
    plan = plan_split(hashes, [()] * n, [""] * n, [""] * n, groups)
    train, val = ({groups[i] for i in side} for side in (plan.train, plan.val))
    assert not train & val and train | val == set(groups) and plan.train
    assert len(plan.val) <= held_out_count(len(set(contents)))
    assert plan.duplicates["extra_copies"] == n - len(set(contents)), "copies are still told by their content"


def test_training_copies_of_held_out_items_are_left_out() -> None:
    hashes = [digest(i) for i in (1, 2, 3, 2, 9)]
    plan = plan_split(hashes, [()] * 5, ["train", "train", "", "val", "val"], list("abcde"))
    assert (plan.train, plan.val) == ([0, 2], [3, 4])
    assert plan.duplicates["removed_copies_of_held_out"] == 1 and plan.duplicates["examples"] == [["b", "d"]]


def test_duplicates_in_a_folder_are_counted_and_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"{'ab'[i % 2]}/{i:03d}.png" for i in range(60)])
    original = Image.open(tmp_path / "a/000.png")
    original.save(tmp_path / "a/copy.png", compress_level=0)  # other bytes, the same picture
    original.save(tmp_path / "a/copy.bmp")
    original.save(tmp_path / "b/contradiction.png")
    data = load(tmp_path)
    found = data.survey.duplicates
    assert (found["extra_copies"], found["removed_from_training"], found["with_different_labels"]) == (
        3,
        2,
        1,
    )
    assert found["examples"] == [["a/000.png", "a/copy.bmp", "a/copy.png", "b/contradiction.png"]]
    sides = ["a/000.png" in split.names for split in (data.train, data.val)]
    assert sides == ["b/contradiction.png" in split.names for split in (data.train, data.val)]
    assert data.survey.items == 63 and data.survey.train + data.survey.val == 61


def test_names_and_order_of_files_change_nothing(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    names = [f"{i}.png" for i in range(40)]
    write_pictures(one, names)
    two.mkdir()
    for i, name in enumerate(reversed(names)):
        (two / f"renamed{i:02d}.png").write_bytes((one / name).read_bytes())
    first, second = load(one), load(two)
    assert first.survey.fingerprint == second.survey.fingerprint
    for a, b in ((first.train, second.train), (first.val, second.val)):
        assert sorted(x.numpy().tobytes() for x in a.x) == sorted(x.numpy().tobytes() for x in b.x)
    again = load(one)
    assert again.train.names == first.train.names == tuple(sorted(first.train.names))
    assert torch.equal(again.train.x, first.train.x)
    (one / "0.png").write_bytes((one / "1.png").read_bytes())
    assert load(one).survey.fingerprint != first.survey.fingerprint


def test_batches_are_the_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for dtype, top in (("uint8", 256), ("uint16", 65536)):
        raw = rng.integers(0, top, (50, 5, 7, 3)).astype(dtype)
        np.savez(tmp_path / "x.npz", images=raw, labels=np.arange(50) % 4)
        data = load(tmp_path)
        x, labels = data.train.batch(torch.tensor([3, 0, 3]))
        assert x.dtype == torch.float32 and x.shape == (3, 3, 5, 7)
        for row, at in enumerate((3, 0, 3)):
            source = int(data.train.names[at].rpartition("#")[2])
            expected = raw[source].transpose(2, 0, 1) / (top - 1) * 2 - 1
            assert np.abs(x[row].numpy() - expected).max() < 1e-6 and labels["class"][row] == source % 4


def test_categorical_columns() -> None:
    columns = {
        "few": ["a", "b"] * 10 + [None],
        "many": [str(i) for i in range(20)] + ["0"],
        "one": ["x"] * 21,
    }
    vocabulary, choices = choose_columns(columns, frozenset())
    assert vocabulary == {"few": ("a", "b")} and {what for what, _, _ in choices} == {
        "column few",
        "column many",
        "column one",
    }
    half = {"c": ["a", "b", "c", "a", "b", "c"]}
    assert choose_columns(half, frozenset())[0] == {} and choose_columns(half, frozenset({"c"}))[0]
    numbers = number_columns(columns, vocabulary, 21)["few"]
    assert numbers.dtype == torch.int64 and numbers.tolist() == [0, 1] * 10 + [2]


def test_values_are_found_by_text_and_by_name() -> None:
    columns, names = {"class": ("0", "1", "10")}, {"0": "T-shirt", "1": "Sneaker", "10": "0"}
    assert resolve(columns, names, "class", "10") == 2
    assert resolve(columns, names, "class", "0") == 0, (
        "the text in the data comes before a name that equals it"
    )
    assert resolve(columns, names, "class", "sneaker") == 1
    with pytest.raises(UserError, match="did you mean: Sneaker"):
        resolve(columns, names, "class", "Sneakers")
    with pytest.raises(UserError, match="not a condition.*class"):
        resolve(columns, names, "colour", "red")


def test_vocabularies_of_a_model_can_be_kept(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"{'bz'[i % 2]}/{i}.png" for i in range(8)])
    data = load(tmp_path, columns={"class": ("a", "b", "c")})
    for name, label in zip(data.train.names, data.train.labels["class"].tolist(), strict=True):
        assert label == (1 if name.startswith("b/") else 3)


def test_one_picture_is_trained_on(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["only.png"])
    data = load(tmp_path / "only.png")
    assert (len(data.train), len(data.val)) == (1, 0) and data.val.x.shape == (0, 1, 6, 6)


def test_large_photographs_are_not_all_held(tmp_path: Path) -> None:
    for i in range(24):
        Image.new("RGB", (2400, 2000), (i * 9, 50, 90)).save(tmp_path / f"{i}.jpg")  # 14 MB each when decoded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    load(tmp_path)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 150, f"{grown:.0f} MB more for 24 photographs of 14 MB"


def test_real_fashion_mnist(shared_data: Callable[[str], Path]) -> None:
    start = time.perf_counter()
    data = load(shared_data("fashion_mnist"))
    assert time.perf_counter() - start < 10  # about 0.7 s on an idle core
    assert (len(data.train), len(data.val), data.train.x.dtype) == (12_000, 2_000, torch.uint8)
    assert data.survey.duplicates["extra_copies"] == 50 and not data.survey.skipped
    assert data.survey.classes == {"class": {str(i): 1_400 for i in range(10)}}
    assert data.resolve("class", "Sneaker") == 7 and data.columns["class"] == tuple("0123456789")
    # the PNG files say the same class as the IDX labels of the same pictures
    assert data.survey.duplicates["with_different_labels"] == 0
    json.dumps(data.survey.to_json())


def test_real_sets(shared_data: Callable[[str], Path]) -> None:
    mnist = load(shared_data("mnist"))
    assert len(mnist.val) == 2_000 and mnist.survey.duplicates["extra_copies"] == 30
    flowers = load(shared_data("flowers") / "originals")
    assert flowers.columns["class"] == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert flowers.modality.format.height == 48 and flowers.modality.format.width == 64
    monet = load(shared_data("monet"))
    assert monet.columns == {} and monet.train.x.shape == (216, 3, 64, 64)
    chest = load(shared_data("pneumoniamnist"))
    assert (
        len(chest.val) == 524 and len(chest.train) == 4_708 - chest.survey.duplicates["removed_from_training"]
    )


def test_real_sets_of_mixed_kinds(shared_data: Callable[[str], Path]) -> None:
    cells = load(shared_data("bccd"))
    assert cells.survey.items == 1_793 + 50 and cells.modality.format.height == 32
    assert cells.survey.classes["class"] == {"0": 1200, "1": 301, "2": 292}
    emoji = load(shared_data("noto_emoji") / "png72", max_side=72)
    assert emoji.modality.format.mode == "RGBA" and emoji.train.x.shape[1:] == (4, 72, 72)
    both = load(shared_data("noto_emoji"), caption={"column": "auto"})
    assert both.captions is not None and both.captions.column == "name+keywords"
    assert both.survey.items == 1332 + 120 and both.survey.captions > 1300
    assert [name for name, _ in both.survey.left_alone] == ["emoji32.npz"]


def test_equal_bytes_in_another_shape_or_mode_are_no_copy() -> None:
    flat = np.zeros((4, 9, 1), np.uint8)
    others = [(flat.reshape(9, 4, 1), "L"), (flat, "1"), (np.zeros((2, 9, 1), np.uint16), "L")]
    assert content_hash(flat, "L") == content_hash(np.asfortranarray(flat), "L")
    assert len({content_hash(pixels, mode) for pixels, mode in [(flat, "L"), *others]}) == 4
