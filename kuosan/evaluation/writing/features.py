"""Feature spaces of texts, and a classifier: where distances between texts are taken.

    ngrams      frequencies of character 1- to 3-grams and of words, weighted by tf-idf, reduced to at most 64 numbers
                by a truncated singular value decomposition (latent semantic analysis, Deerwester et al. 1990)
    sentences   a sentence encoder from a local folder (sentences.py), where the user names one

The first needs no training but counts, works in any script, and sees spelling, words, style and topic, not grammar
over long distances nor truth. n-grams are hashed to a fixed number of columns, so nothing must be kept but a weight
per column; both the weights and the directions are fitted on real texts that no comparison uses. One scale for all
directions: the mean squared row of those texts is the number of dimensions, as the cubic kernel of `kd` wants it,
and no direction of mere noise is blown up.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kuosan.evaluation.features import Space
from kuosan.evaluation.writing.words import words

DIMENSIONS = 64
CHARACTER_COLUMNS, WORD_COLUMNS = 2**15, 2**15

Floats = np.ndarray[Any, np.dtype[np.float64]]


class TextSpace(Space):
    """A space of texts."""

    @abstractmethod
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Rows of features, on the CPU."""


def _counts(texts: Sequence[str]) -> Any:
    """Hashed counts of character 1- to 3-grams and of words, 1 + log of each, as a sparse matrix."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    options = {"norm": None, "alternate_sign": False, "dtype": np.float64}
    characters = HashingVectorizer(
        analyzer="char", ngram_range=(1, 3), lowercase=False, n_features=CHARACTER_COLUMNS, **options
    )
    whole = HashingVectorizer(analyzer=words, n_features=WORD_COLUMNS, **options)
    # UTF-8 cannot write halves of surrogate pairs; no text is refused for one.
    clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    found = hstack([characters.transform(clean), whole.transform(clean)], format="csr")
    found.data = 1 + np.log(found.data)
    return found


@dataclass(frozen=True)
class Weights:
    """tf-idf weights of the hashed columns: log((1 + n)/(1 + n with it)) + 1."""

    idf: Floats

    @classmethod
    def fit(cls, texts: Sequence[str]) -> Weights:
        seen = np.asarray((_counts(texts) > 0).sum(0)).ravel()
        return cls(np.log((1 + len(texts)) / (1 + seen)) + 1)

    def rows(self, texts: Sequence[str]) -> Any:
        """Sparse rows of length 1 (0 for an empty text)."""
        from sklearn.preprocessing import normalize

        return normalize(_counts(texts).multiply(self.idf[None, :]).tocsr())


@dataclass(frozen=True)
class Ngrams(TextSpace):
    """The space `ngrams`; `fitted` texts chose its weights and its directions, which hold `kept` of their variance."""

    weights: Weights
    directions: Floats
    mean: Floats
    scale: float
    fitted: int
    kept: float
    name: str = "ngrams"

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        rows = self.weights.rows(texts) @ self.directions.T
        return torch.from_numpy((rows - self.mean) * self.scale).float()

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": "tf-idf of character 1- to 3-grams and words, truncated singular value decomposition",
            "dimensions": len(self.directions),
            "fitted": self.fitted,
            "quality": {"name": "variance kept", "value": self.kept, "n": self.fitted},
        }


def fit_ngrams(texts: Sequence[str], seed: int = 0, dimensions: int = DIMENSIONS) -> Ngrams:
    """The space from real texts, at most a direction for every four of them; the same bits for the same seed.

    Raises ValueError for fewer than eight texts, or where they all look the same.
    """
    from sklearn.decomposition import TruncatedSVD

    if len(texts) < 8:
        raise ValueError(f"ngrams: needs 8 texts to fit, got {len(texts)}")
    weights = Weights.fit(texts)
    sparse = weights.rows(texts)
    d = min(dimensions, len(texts) // 4)
    svd = TruncatedSVD(d, n_iter=4, random_state=seed)
    rows = svd.fit_transform(sparse)
    mean = rows.mean(0)
    spread = float(((rows - mean) ** 2).sum(1).mean())
    total = float(sparse.multiply(sparse).sum() / len(texts) - np.square(np.asarray(sparse.mean(0))).sum())
    if spread <= 1e-12:
        raise ValueError(f"ngrams: the {len(texts)} texts to fit on all look the same")
    kept = min(1.0, spread / total)
    return Ngrams(weights, svd.components_, mean, float(np.sqrt(d / spread)), len(texts), kept)


@dataclass(frozen=True)
class TextClassifier:
    """Logistic regression on tf-idf rows; `classes` in the order of the scores; `quality` on held-out texts."""

    weights: Weights
    classes: tuple[int, ...]
    coefficients: Floats
    intercepts: Floats
    quality: Mapping[str, Any] = field(default_factory=dict)
    name: str = "tf-idf"

    def logits(self, texts: Sequence[str]) -> Float[Tensor, "n k"]:
        return torch.from_numpy(self.weights.rows(texts) @ self.coefficients.T + self.intercepts)

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": "logistic regression on tf-idf of character 1- to 3-grams and words, trained on the training texts",
            "classes": list(self.classes),
            "quality": dict(self.quality),
        }


def train_text_classifier(
    texts: Sequence[str],
    labels: Int[Tensor, " n"],
    *,
    val: Sequence[str] = (),
    val_labels: Int[Tensor, " v"] | None = None,
    strength: float = 10.0,
) -> TextClassifier:
    """A classifier of the texts. `strength` is the inverse of the ridge penalty.

    Raises ValueError where there are fewer than two classes.
    """
    from sklearn.linear_model import LogisticRegression

    classes = tuple(torch.unique(labels).tolist())
    if len(classes) < 2:
        raise ValueError(f"text classifier: needs two classes, got {len(classes)}")
    weights = Weights.fit(texts)
    model = LogisticRegression(C=strength, max_iter=300).fit(weights.rows(texts), labels.numpy())
    coefficients, intercepts = model.coef_, model.intercept_
    if len(classes) == 2:  # one row of scores stands for both classes
        coefficients = np.concatenate([-coefficients, coefficients])
        intercepts = np.concatenate([-intercepts, intercepts])
    found = TextClassifier(weights, classes, coefficients, intercepts)
    if val and val_labels is not None:
        guess = torch.tensor(classes)[found.logits(val).argmax(1)]
        share = float((guess == val_labels).double().mean())
        quality = {"name": "accuracy on held-out texts", "value": share, "n": len(val)}
        return TextClassifier(weights, classes, coefficients, intercepts, quality)
    return found
