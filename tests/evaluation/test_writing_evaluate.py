"""The whole evaluation of texts: real ones pass, each fault is seen where it should be, nothing crashes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kuosan.errors import UserError
from kuosan.evaluation import Evaluation
from kuosan.evaluation.writing import evaluate_texts

SETS = ("entropy_characters", "entropy_words", "distinct_1", "distinct_2", "distinct_3", "distinct_4", "self_bleu",
        "repetition", "known_words")  # fmt: skip
COPYING = ("longest_span", "copies", "nearest_distance")
SPACES = ("fd_ngrams", "kd_ngrams", "kd_rbf_ngrams", "fd_inf_ngrams", "precision", "recall", "density", "coverage",
          "vendi", "mauve", "c2st_ngrams", "swd_ngrams")  # fmt: skip
EVERYTHING = {*SETS, *COPYING, *SPACES, "class_accuracy"}


def written(n: int, seed: int, topics: int = 4, chinese: bool = False) -> tuple[list[str], torch.Tensor]:
    """Texts of 20 made-up words; half of the words of a text come from one topic's own pool."""
    generator = np.random.default_rng(seed)
    letters = (
        list("天地玄黃宇宙洪荒日月盈昃辰宿列張寒來暑往秋收冬藏") if chinese else list("abcdefghijklmnop")
    )
    pools = np.random.default_rng(9).choice(letters, (5, 150, 2 if chinese else 4))
    weight = 1 / np.arange(1, 151)
    which = generator.integers(topics, size=n)
    texts = []
    for k in which:
        draws = generator.choice(150, 20, p=weight / weight.sum())
        pool = np.where(generator.random(20) < 0.5, k, 4)
        texts.append(
            ("" if chinese else " ").join("".join(pools[p, i]) for p, i in zip(pool, draws, strict=True))
        )
    return texts, torch.from_numpy(which)


TRAIN, VAL = written(700, 1), written(220, 2)


def evaluated(samples: list[str], asked: torch.Tensor | None = None) -> Evaluation:
    return evaluate_texts(
        samples, TRAIN[0], VAL[0], labels=asked, train_labels=TRAIN[1], val_labels=VAL[1], seconds=5
    )


@pytest.fixture(scope="module")
def honest() -> Evaluation:
    return evaluated(*written(200, 3))


def test_real_texts_measure_as_real(honest: Evaluation) -> None:
    pairs = {"pairwise_within", "pairwise_between"}
    assert set(honest.metrics) == EVERYTHING - {"fd_inf_ngrams"} | pairs and set(honest.left_out) == {
        "fd_inf_ngrams"
    }
    for name, m in honest.metrics.items():
        assert m.name == name and m.stderr is not None and m.floor is not None
        assert m.sigmas is None or abs(m.sigmas) < 3.5, name
    assert honest.metrics["class_accuracy"].value > 0.85
    assert honest.spaces["tf-idf"]["quality"]["value"] > 0.85
    assert json.loads(json.dumps(honest.to_json(), allow_nan=False))["counts"]["samples"] == 200


def test_copies_wrong_classes_noise_collapse_and_dropped_topics_are_seen(honest: Evaluation) -> None:
    samples, asked = written(200, 4)
    samples[:50], asked[:50] = TRAIN[0][:50], TRAIN[1][:50]
    asked[50:100] = (asked[50:100] + 1) % 4
    found = evaluated(samples, asked)
    assert found.metrics["copies"].value == pytest.approx(0.25, abs=0.03)
    assert {(r.sample, r.train) for r in found.nearest} <= {(i, i) for i in range(50)}
    longest = found.spaces["spans"]["longest"]
    assert longest[0]["text"] == TRAIN[0][longest[0]["train"]] and longest[0]["sample"] < 50
    assert found.metrics["longest_span"].sigmas > 4
    assert found.metrics["class_accuracy"].value < honest.metrics["class_accuracy"].value - 0.1

    generator = np.random.default_rng(5)
    noisy = evaluated(
        ["".join(c if generator.random() < 0.9 else "q" for c in t) for t in written(200, 6)[0]]
    )
    for name in ("fd_ngrams", "kd_rbf_ngrams", "mauve", "known_words"):
        assert noisy.metrics[name].sigmas > 3, name
    assert noisy.metrics["precision"].value < honest.metrics["precision"].value - 0.3
    dropped = evaluated(written(200, 7, topics=2)[0])
    for name in ("fd_ngrams", "kd_rbf_ngrams", "mauve", "recall", "coverage"):
        assert dropped.metrics[name].sigmas > 3, name
    collapsed = evaluated([TRAIN[0][i % 3] for i in range(200)])
    for name in ("entropy_words", "distinct_2", "self_bleu", "mauve", "recall", "copies"):
        assert collapsed.metrics[name].sigmas > 3, name


def test_the_same_bits_again_whole_on_disk_and_global_state_untouched(tmp_path: Path) -> None:
    samples = written(40, 8)[0]
    before = torch.get_rng_state()
    a = evaluate_texts(samples, TRAIN[0][:200], VAL[0][:30], seconds=1, out=tmp_path)
    b = evaluate_texts(samples, TRAIN[0][:200], VAL[0][:30], seconds=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert (
        a.to_json() == b.to_json() == json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    )
    assert "no classes" in a.left_out["class_accuracy"]
    assert "held-out and" in a.metrics["distinct_1"].note, (
        "few held-out texts, so training texts join as real"
    )


@pytest.mark.parametrize(
    "samples",
    [
        [""],
        ["one"],
        [""] * 20,
        ["same text"] * 30,
        ["", "a b c", "x" * 500] * 5,
        ["。"] * 12,
        ["\ud800 \0"] * 12,
    ],
    ids=["empty", "one", "all empty", "identical", "mixed", "marks", "broken"],
)
@pytest.mark.parametrize(("train", "val"), [(1, 0), (120, 20)])
def test_strange_samples_and_tiny_sets_leave_out_with_a_reason(
    samples: list[str], train: int, val: int
) -> None:
    found = evaluate_texts(samples, TRAIN[0][:train], VAL[0][:val], seconds=0.5)
    assert set(found.metrics) | set(found.left_out) >= EVERYTHING
    assert not set(found.metrics) & set(found.left_out)
    assert all(found.left_out.values())
    json.dumps(found.to_json(), allow_nan=False)
    assert found.counts["empty"] == samples.count("")


def test_one_long_text_is_cut_to_the_length_of_samples() -> None:
    samples = written(60, 9)[0]
    found = evaluate_texts(samples, [" ".join(TRAIN[0])], [" ".join(VAL[0])], seconds=2)
    assert found.counts["train"] == 1 and found.counts["train_pieces"] == pytest.approx(700, abs=50)
    assert {*SETS, *COPYING, "fd_ngrams", "mauve"} <= set(found.metrics)
    assert all(
        abs(found.metrics[n].sigmas or 0) < 4
        for n in ("entropy_words", "distinct_2", "longest_span", "fd_ngrams")
    )
    assert "in pieces of up to" in found.metrics["fd_ngrams"].note


def test_chinese_texts() -> None:
    train, val, samples = (written(n, seed, chinese=True) for n, seed in ((400, 1), (200, 2), (200, 3)))
    found = evaluate_texts(samples[0], train[0], val[0], labels=samples[1], train_labels=train[1], val_labels=val[1],
                           seconds=3)  # fmt: skip
    assert {*SETS, *COPYING, *SPACES, "class_accuracy"} - {"fd_inf_ngrams"} <= set(found.metrics)
    assert found.metrics["entropy_characters"].value == pytest.approx(found.metrics["entropy_words"].value)
    assert all(m.sigmas is None or abs(m.sigmas) < 3.5 for m in found.metrics.values())


def test_what_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="nothing to compare"):
        evaluate_texts([], ["a"], ["b"])
    with pytest.raises(UserError, match="nothing to compare"):
        evaluate_texts(["a"], [""], ["b"])
    with pytest.raises(UserError, match="one text, not several"):
        evaluate_texts("abc", ["a"], ["b"])
    with pytest.raises(UserError, match="2 samples but 1 labels"):
        evaluate_texts(["a", "b"], ["a"], ["b"], labels=torch.zeros(1))


def test_verse_measures_as_real(shared_data: Callable[[str], Path]) -> None:
    table = (
        (shared_data("chinese_poetry") / "regulated_verse.tsv").read_text(encoding="utf-8").splitlines()[1:]
    )
    poems = sorted({line.split("\t")[2] for line in table})
    order = np.random.default_rng(0).permutation(len(poems))
    a, b, c = ([poems[i] for i in part] for part in (order[:100], order[100:1000], order[1000:1300]))
    found = evaluate_texts(a, b, c, seconds=3)
    for name, m in found.metrics.items():
        assert m.sigmas is None or abs(m.sigmas) < 3.5, name
