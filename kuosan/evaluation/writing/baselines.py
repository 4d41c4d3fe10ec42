"""What a generative model of texts must beat: bits per character of models that everybody has.

A negative log-likelihood says little alone: 2.2 bits per character is poor for one corpus and excellent for another.
Beside it belong the same bits under counts of n-grams (ngrams.py) and under compressors (compressors.py), measured on
the same held-out texts. A diffusion model whose *upper bound* lies below them has certainly learned more than they.
"""

from __future__ import annotations

from collections.abc import Sequence

from kuosan.errors import UserError
from kuosan.evaluation.writing.compressors import compressed_bits, compressors
from kuosan.evaluation.writing.ngrams import KneserNey

ORDERS = (2, 3, 4, 5, 6)


def text_baselines(
    train: Sequence[str], val: Sequence[str], orders: Sequence[int] = ORDERS
) -> dict[str, float]:
    """Bits per character of the held-out texts `val`, by the name of the baseline.

    `unigram` and `kneser_ney_N` are n-gram models of `train`, `xz`, `zstd` and (with pyppmd) `ppmd` compress `val`
    alone, and with `_given_train` after the training texts. Raises UserError where either side is empty.
    """
    if not any(train) or not any(val):
        raise UserError(
            f"There is nothing to measure baselines on: {len(train)} training and {len(val)} held-out texts, "
            "of which at least one on each side must hold a character."
        )
    model = KneserNey(train, max(orders, default=1))
    found = {"unigram": model.bits(val, 1)}
    found |= {f"kneser_ney_{order}": model.bits(val, order) for order in orders}
    for name, compressor in compressors().items():
        found[name] = compressed_bits(compressor, val)
        found[f"{name}_given_train"] = compressed_bits(compressor, val, train)
    return found
