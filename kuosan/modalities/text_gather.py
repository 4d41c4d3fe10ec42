"""All texts of a folder as passages of one length.

A document of at most L tokens is one passage; a longer one is cut into passages of L tokens, one behind the
other.  No passage holds parts of two documents.

What must stay together in the split is the document, with its near copies.  Where there are fewer than 40
documents, long ones are divided into sections of consecutive passages, and whole sections are held out: of
one novel about a twentieth, in several places.  Two documents that are the same lose one of the two; passages
inside a document are all kept, for a refrain is part of the song.

In training the window of a passage slides back by up to L - 1 places, over the passages before it in its
document (`Ragged`): every offset of a long document is seen.  Where a passage before it is held out, it does
not slide into it; `TextModality.confine` sees to that once the sides are known.

The rule of `length="auto"`: L covers 95 of 100 documents, rounded up to a multiple of 16, between 32 and 256.
Where documents are fewer than 40 it is at most a twentieth of all tokens, so that there is something to split.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kuosan.errors import UserError
from kuosan.modalities.base import Choice, Gathered
from kuosan.modalities.folder import CLASS, Folder
from kuosan.modalities.near_copies import MOST_TEXTS, near_copies
from kuosan.modalities.passages import FEW_WORKS, powers, sections, spread
from kuosan.modalities.ragged import Ragged
from kuosan.modalities.text_read import Document, read_documents
from kuosan.modalities.tokeniser import Tokeniser, read_tokeniser
from kuosan.modalities.tokeniser_training import KINDS, train_tokeniser

if TYPE_CHECKING:
    from kuosan.modalities.text import TextModality

SHORTEST, LONGEST, STEP = 32, 256, 16  # of the automatic length, in tokens
COVERED = 95.0  # per cent of the documents
_CHECKED = 1_000  # documents that somebody else's tokeniser is tried on


def gather_text(
    folder: Folder,
    kind: type[TextModality],
    like: TextModality | None = None,
    *,
    length: int | str = "auto",
    tokeniser: str | Tokeniser = "auto",
    vocabulary: int | str = "auto",
    column: str | None = None,
    document: str = "file",
) -> Gathered:
    """Every document of `folder` as passages in the form of `like`, or in one chosen from the data.

    Args:
        length: tokens of a passage, or "auto".
        tokeniser: "auto", one of `tokeniser_training.KINDS`, a path of a tokenizer.json, or a tokeniser.
        vocabulary: how many tokens there should be, or "auto".
        column: which column of records is the text, or a template such as "{title}: {text}".
        document: what a document is in .txt and .md files: the "file", a "line" or a "paragraph".

    Raises `UserError` where there is no text, or an option cannot be.
    """
    found = read_documents(folder, column, document)
    documents, texts = found.documents, [d.text for d in found.documents]
    if not documents:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in (found.failed + found.left_out)[:3])
        raise UserError(
            f"No text in {folder.source} can be read ({reasons or 'all of it is blank'}); mend the files and try again."
        )
    choices = list(found.choices)
    if like is not None:
        words = like.tokeniser
        length = like.length
    else:
        words, chosen = _tokeniser(tokeniser, vocabulary, texts)
        choices += chosen
    choices += _loss(words, texts)
    tokens = [words.encode_array(text) for text in texts]
    sizes = np.array([len(part) for part in tokens])
    if like is None:
        length, why = _length(length, sizes)
        choices.append(("passage length", f"{length:,} tokens", why))
    modality = kind(words, int(length))

    counts = [max(1, math.ceil(size / modality.length)) for size in sizes]
    digests = [hashlib.sha256(text.encode("utf-8")).digest() for text in texts]
    clusters, near = _near(documents, digests)
    given = any(d.side == "val" for d in documents)
    section, together = sections(counts, divide=not given, what="document")
    choices += together
    groups, hashes, names = [], [], []
    for i, (one, count) in enumerate(zip(documents, counts, strict=True)):
        for k in range(count):
            whole = section == 0 or digests[i] in clusters
            part = b"" if whole else (k * math.ceil(count / section) // count).to_bytes(4, "big")
            groups.append(hashlib.sha256(clusters.get(digests[i], digests[i]) + part).digest())
            hashes.append(hashlib.sha256(digests[i] + k.to_bytes(4, "big")).digest())
            names.append(one.name if count == 1 else f"{one.name}:{k}")
    keys = dict.fromkeys(key for d in documents for key in d.columns)
    columns = {key: spread([d.columns.get(key) for d in documents], counts) for key in keys}
    characters, total = sum(map(len, texts)), int(sizes.sum())
    totals = {
        "documents": len(documents),
        "blank documents": found.blank,
        "characters": characters,
        "tokens": total,
        "characters per token": round(characters / max(1, total), 3),
    }
    return Gathered(
        modality, _storage(tokens, counts, modality), hashes, names, columns, frozenset({CLASS}),
        spread([d.side for d in documents], counts), [""] * len(names), {"lengths": powers(sizes)},
        found.failed, found.left_out, choices, groups=groups,
        firsts=[0, *np.cumsum(counts)[:-1].tolist()], totals=totals,
        duplicates={"documents_repeated": len(digests) - len(set(digests)), **near},
    )  # fmt: skip


def _tokeniser(wanted: str | Tokeniser, size: int | str, texts: list[str]) -> tuple[Tokeniser, list[Choice]]:
    if isinstance(wanted, Tokeniser):
        return wanted, []
    if wanted == "auto" or wanted in KINDS:
        return train_tokeniser(texts, wanted, size)
    if size != "auto":
        raise UserError(f"The tokeniser {wanted} has its own vocabulary; leave out the size of {size}.")
    tokeniser = read_tokeniser(wanted)
    return tokeniser, [("tokeniser", f"{tokeniser.kind}, {tokeniser.size:,} tokens", f"read from {wanted}")]


def _loss(tokeniser: Tokeniser, texts: list[str]) -> list[Choice]:
    some = texts[:_CHECKED]
    lost = tokeniser.loss(some)
    why = f"of {len(some):,} texts tried it changes {lost:,}: samples will show what it leaves of a text"
    return [("tokeniser's loss", "not exact", why)] if lost else []


def _length(wanted: int | str, sizes: Any) -> tuple[int, str]:
    if wanted != "auto":
        if not isinstance(wanted, int) or wanted < 2:
            raise UserError(
                f"A passage of {wanted} tokens cannot be; give a whole number from 2 on, or auto."
            )
        return wanted, "as asked for"
    covering = float(np.percentile(sizes, COVERED))
    length = max(SHORTEST, min(LONGEST, STEP * math.ceil(covering / STEP)))
    why = f"{COVERED:g} % of the documents have at most {covering:,.0f} tokens"
    if len(sizes) < FEW_WORKS:
        twentieth = STEP * (int(sizes.sum()) // (20 * STEP))
        if twentieth < length and length > SHORTEST:
            return max(SHORTEST, twentieth), f"about a twentieth of all {int(sizes.sum()):,} tokens"
    return (
        length,
        why if covering <= LONGEST else f"{why}, and no passage is longer than {LONGEST} unless asked for",
    )


def _near(documents: Sequence[Document], digests: list[bytes]) -> tuple[dict[bytes, bytes], dict[str, Any]]:
    """One digest for all of a group of near copies, by the digest of each; and what to report of them."""
    first = {digest: i for i, digest in reversed(list(enumerate(digests)))}
    different = sorted(first.values())
    if len(different) > MOST_TEXTS:
        return {}, {"near_copies": f"not looked for among more than {MOST_TEXTS:,} documents"}
    groups = [[different[j] for j in group] for group in near_copies([documents[i].text for i in different])]
    clusters = {digests[i]: min(digests[j] for j in group) for group in groups for i in group}
    held = [group for group in groups if any(documents[i].side == "val" for i in group)]
    return clusters, {
        "near_copies": sum(len(group) - 1 for group in groups),
        "near_copies_of_held_out": sum(documents[i].side != "val" for group in held for i in group),
        "near_examples": [[documents[i].name for i in group[:6]] for group in groups[:20]],
    }


def _storage(tokens: list[Any], counts: list[int], modality: TextModality) -> Ragged:
    """The stream of all documents and the place of each passage; (2) of `ragged` with low = start - L + 1."""
    size, length = modality.tokeniser.size, modality.length
    dtype = np.uint8 if size <= 1 << 8 else np.int16 if size <= 1 << 15 else np.int32
    stream = torch.from_numpy(np.concatenate(tokens).astype(dtype))
    of = np.repeat(np.arange(len(counts)), counts)
    ends = np.cumsum([len(part) for part in tokens])
    begins = ends - np.array([len(part) for part in tokens])
    number = np.concatenate([np.arange(count) for count in counts])
    start = begins[of] + number * length
    stop = np.minimum(start + length, ends[of])
    low = np.maximum(begins[of], start - length + 1)
    start, stop, low = (torch.from_numpy(part.astype(np.int64)) for part in (start, stop, low))
    return Ragged(stream, start, stop, low, stop)
