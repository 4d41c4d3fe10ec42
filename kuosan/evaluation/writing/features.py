"""Feature spaces of texts, and a classifier: where distances between texts are taken.

    ngrams      frequencies of character 1- to 3-grams and of words, weighted by tf-idf, reduced to at most 64 numbers
                by a truncated singular value decomposition (latent semantic analysis, Deerwester et al. 1990)
    sentences   a sentence encoder from a local folder (sentences.py), where the user names one

The first needs no training but counts, works in any script, and sees spelling, words, style and topic, not grammar
over long distances nor truth. n-grams are hashed to a fixed number of columns, so nothing must be kept but a weight
per column; weights and directions are fitted on real texts that no comparison uses. All directions keep their
proportions, so that none of mere noise is blown up, and are scaled together to a mean square of 1, as `kd` wants it.
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

Ints = np.ndarray[Any, np.dtype[np.int64]]
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
    """The space `ngrams`; `fitted` texts chose its weights and its directions, which hold `kept` of their variance.

    Directions live in the `columns` that the fitted texts have. What they cannot show of a text is two numbers more:
    the length of its row outside the directions, and on columns that the fitted texts never had. Without these, a text
    of strange n-grams would lie at the centre of all texts, near to everything (letters replaced at random in one of
    twenty places of Shakespeare were then 1 standard error from the floor of `fd`, instead of 13).
    """

    weights: Weights
    columns: Ints
    directions: Floats
    mean: Floats
    scale: Floats
    fitted: int
    kept: float
    name: str = "ngrams"

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        rows = _shown(self.weights.rows(texts), self.columns, self.directions)
        return torch.from_numpy((rows - self.mean) * self.scale).float()

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": "tf-idf of character 1- to 3-grams and words, truncated singular value decomposition, strangeness",
            "dimensions": len(self.mean),
            "fitted": self.fitted,
            "quality": {"name": "variance kept", "value": self.kept, "n": self.fitted},
        }


def _shown(sparse: Any, columns: Ints, directions: Floats) -> Floats:
    """Coordinates along the directions; length outside them; length on columns that are not `columns`."""
    known = sparse[:, columns]
    along = known @ directions.T
    whole, here = (np.asarray(m.multiply(m).sum(1)).ravel() for m in (sparse, known))
    outside = np.sqrt(np.clip(whole - np.square(along).sum(1), 0, None))
    return np.column_stack([along, outside, np.sqrt(np.clip(whole - here, 0, None))])


def fit_ngrams(texts: Sequence[str], seed: int = 0, dimensions: int = DIMENSIONS) -> Ngrams:
    """The space from real texts, at most a dimension for every four of them; the same bits for the same seed.

    Weights and directions come from the first three quarters. The last quarter, which they have not seen, sets the
    scale: its rows have mean 0 and mean square 1 per dimension.
    Raises ValueError for fewer than 16 texts, or where they all look the same.
    """
    from sklearn.decomposition import TruncatedSVD

    if len(texts) < 16:
        raise ValueError(f"ngrams: needs 16 texts to fit, got {len(texts)}")
    cut = 3 * len(texts) // 4
    weights = Weights.fit(texts[:cut])
    sparse = weights.rows(texts[:cut])
    columns = np.flatnonzero(np.asarray(sparse.sum(0)).ravel())
    known = sparse[:, columns]
    total = float(known.multiply(known).sum() / cut - np.square(np.asarray(known.mean(0))).sum())
    if total <= 1e-9 or len(columns) < 2:
        raise ValueError(f"ngrams: the {len(texts)} texts to fit on all look the same")
    d = max(1, min(dimensions, len(texts) // 4) - 2)
    svd = TruncatedSVD(min(d, len(columns) - 1), n_iter=4, random_state=seed)
    kept = float(svd.fit_transform(known).var(0).sum() / total)
    rows = _shown(weights.rows(texts[cut:]), columns, svd.components_)
    mean, variance = rows.mean(0), rows.var(0)
    # One scale for all directions, and one each for the two lengths, which are of another kind.
    variance[:-2] = variance[:-2].mean()
    scale = 1 / np.sqrt(np.where(variance > 1e-12, variance, 1.0))
    return Ngrams(weights, columns, svd.components_, mean, scale, cut, min(1.0, kept))


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
