"""Feature spaces of texts: rows belong to their text alone, the seed is everything; the classifier; MAUVE."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from kuosan.errors import UserError
from kuosan.evaluation import Mauve
from kuosan.evaluation.frontier import SHARPNESS, frontier_area, quantised
from kuosan.evaluation.writing import Sentences, fit_ngrams, train_text_classifier

TOPICS = (
    "the sea and the ship sail under a wind",
    "bread butter milk and a warm oven cake",
    "春江花月夜天地玄黃宇宙洪荒",
)


def written(n: int, seed: int) -> tuple[list[str], torch.Tensor]:
    generator = np.random.default_rng(seed)
    which = generator.integers(3, size=n)
    pools = [topic.split() if " " in topic else list(topic) for topic in TOPICS]
    texts = [("" if k == 2 else " ").join(generator.choice(pools[k], 12)) for k in which]
    return texts, torch.from_numpy(which)


def test_a_row_is_its_texts_alone_and_the_space_its_seeds() -> None:
    texts, labels = written(200, 0)
    space, again = fit_ngrams(texts, seed=3), fit_ngrams(texts, seed=3)
    rows = space(texts)
    assert rows.shape == (200, 50) and space.describe()["dimensions"] == 50
    assert torch.equal(rows, again(texts)) and torch.equal(space(texts[7:9]), rows[7:9])
    rest = rows[150:]  # the quarter that sets the scale
    assert rest.mean(0).abs().max() < 1e-4
    assert float(rest[:, :-2].square().sum(1).mean()) == pytest.approx(48, rel=1e-4)
    assert torch.allclose(rest[:, -2].square().mean(), torch.ones(()), rtol=1e-4)
    assert torch.isfinite(space(["", "\ud800", "新 text"])).all()
    apart = torch.cdist(rows, rows).fill_diagonal_(torch.inf)
    assert (labels[apart.argmin(1)] == labels).double().mean() > 0.99, "neighbours share their topic"
    assert 0 < space.kept <= 1


def test_directions_are_those_of_the_largest_variance_and_the_rest_is_length() -> None:
    """Eckart & Young: no d directions hold more of the fitted rows; with the length outside, no length is lost."""
    texts, _ = written(160, 1)
    kept = [fit_ngrams(texts, dimensions=d).kept for d in (4, 8, 30)]
    assert kept[0] < kept[1] < kept[2] <= 1
    space = fit_ngrams(texts, dimensions=10)
    dense = space.weights.rows(texts[:120]).toarray()
    assert np.square(dense).sum(1) == pytest.approx(np.ones(120))
    values = np.linalg.svd(dense, compute_uv=False)
    assert np.square(dense[:, space.columns] @ space.directions.T).sum() == pytest.approx(
        np.square(values[:8]).sum(), rel=0.02
    )
    for some in (texts, ["quite another thing", "天天天"]):
        raw = space(some).double().numpy() / space.scale + space.mean
        assert np.square(raw[:, :-1]).sum(1) == pytest.approx(np.ones(len(some)), rel=1e-4)
    assert (space.mean + space(texts[:9]).numpy()[:, -1:] / space.scale[-1])[:, -1] == pytest.approx(
        np.zeros(9), abs=1e-5
    )


def test_strange_spelling_is_far_from_all_texts() -> None:
    (texts, _), (fresh, _) = written(400, 2), written(50, 3)
    space = fit_ngrams(texts[:300])
    generator = np.random.default_rng(0)
    strange = ["".join(c if generator.random() < 0.8 else "#" for c in t) for t in fresh]
    real = space(texts[300:])
    near, far = (torch.cdist(space(some), real).min(1).values for some in (fresh, strange))
    assert float(far.median()) > float(near.quantile(0.9))


def test_too_few_or_equal_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="16 texts"):
        fit_ngrams(["a"] * 15)
    with pytest.raises(ValueError, match="look the same"):
        fit_ngrams(["same"] * 50)


@pytest.mark.parametrize("classes", [(0, 1, 2), (5, -2, -2)], ids=["three", "two"])
def test_the_classifier_learns_and_says_how_well(classes: tuple[int, ...]) -> None:
    (texts, which), (val, val_which) = written(150, 0), written(90, 1)
    names = torch.tensor(classes)
    found = train_text_classifier(texts, names[which], val=val, val_labels=names[val_which])
    assert found.classes == tuple(sorted(set(classes))) and found.logits(val).shape == (90, len(set(classes)))
    guess = torch.tensor(found.classes)[found.logits(val).argmax(1)]
    share = float((guess == names[val_which]).double().mean())
    assert share > 0.97 and found.quality == {"name": "accuracy on held-out texts", "value": share, "n": 90}
    with pytest.raises(ValueError, match="two classes"):
        train_text_classifier(texts, torch.zeros(150, dtype=torch.long))


def test_the_frontier_has_its_known_areas() -> None:
    """1 for equal histograms; for disjoint ones KL(Q‖R) = −log(1−λ), so x = (1−λ)^c, y = λ^c: area Γ(c+1)²/Γ(2c+1)."""
    p = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    assert float(frontier_area(p, p)) == pytest.approx(1)
    tiny = 1e-300
    a = torch.tensor([1.0, tiny], dtype=torch.float64)
    expected = math.gamma(SHARPNESS + 1) ** 2 / math.gamma(2 * SHARPNESS + 1)
    assert float(frontier_area(a, a.flip(0), points=2000)) == pytest.approx(expected, rel=1e-3)
    q = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    assert float(frontier_area(p, q)) == pytest.approx(float(frontier_area(q, p)), rel=1e-12), "symmetric"
    assert float(frontier_area(p, q)) < 1


def test_the_error_of_mauve_is_its_spread() -> None:
    values, errors = [], []
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        x, y = torch.randn(300, 3, generator=generator), torch.randn(300, 3, generator=generator)
        found = Mauve().estimate(x + torch.tensor([0.7, 0.0, 0.0]), y)
        values.append(found.value)
        errors.append(found.stderr)
    assert 0.6 < np.mean(errors) / np.std(values, ddof=1) < 1.8


def test_few_different_rows_are_their_own_clusters() -> None:
    x, y = torch.zeros(40, 2), torch.cat([torch.zeros(30, 2), torch.ones(10, 2)])
    mine, theirs = quantised(x, y)
    assert sorted(mine.tolist()) == [0, 40] and sorted(theirs.tolist()) == [10, 30]
    assert Mauve().value(x, x) == pytest.approx(1)


def test_sentences_need_their_package_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kuosan.evaluation.stock.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install transformers"):
        Sentences(tmp_path)
    monkeypatch.setattr("kuosan.evaluation.stock.find_spec", lambda name: object())
    with pytest.raises(UserError, match="no config.json"):
        Sentences(tmp_path)


class _Fed(dict[str, torch.Tensor]):
    def to(self, device: object) -> _Fed:
        return self


class _Tokenizer:
    """Characters as tokens, padded with a token that must not count."""

    model_max_length = 10**30

    def __call__(self, texts: list[str], *, max_length: int, **options: object) -> _Fed:
        assert options == {"padding": True, "truncation": True, "return_tensors": "pt"}
        rows = [[ord(c) for c in text[:max_length]] for text in texts]
        width = max(map(len, rows))
        ids = torch.tensor([row + [7] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return _Fed(input_ids=ids, attention_mask=mask)


class _Model(torch.nn.Module):
    config = SimpleNamespace(hidden_size=2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(
            last_hidden_state=torch.stack([input_ids.float(), input_ids.float() ** 2 / 50], -1)
        )


def test_a_sentence_is_the_mean_over_its_own_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the package: padding does not count, so a row does not depend on its batch."""
    asked: list[dict[str, object]] = []

    def load(made: object) -> object:
        def from_pretrained(folder: str, **options: object) -> object:
            asked.append(options)
            return made

        return SimpleNamespace(from_pretrained=from_pretrained)

    fake = ModuleType("transformers")
    fake.utils = SimpleNamespace(logging=SimpleNamespace(disable_progress_bar=lambda: None))  # type: ignore[attr-defined]
    fake.AutoTokenizer, fake.AutoModel = load(_Tokenizer()), load(_Model())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", fake)
    monkeypatch.setattr("kuosan.evaluation.stock.find_spec", lambda name: object())
    (tmp_path / "config.json").write_text("{}")
    space = Sentences(tmp_path)
    rows = space(["a", "abcdefghij", "zz"])
    x = torch.tensor([97.0, 97.0**2 / 50])
    assert torch.allclose(rows[0], x / x.norm() * 2**0.5)
    assert torch.allclose(rows[0], space(["a"])[0]) and space.describe()["dimensions"] == 2
    assert all(options["local_files_only"] for options in asked) and asked[0]["use_safetensors"]
