"""A tokeniser from a corpus, chosen by what the corpus is like.

The rule of `kind="auto"`: characters where there is too little text to learn merges from (below 200,000
characters), or where one character alone carries more than six bits (the entropy of single characters: about
4.4 in English, 9 in classical Chinese), for then it says as much as a piece of an alphabetic word; else byte
pairs.  Byte-level modelling costs masked diffusion more than it costs left-to-right models, so bytes are never
chosen by themselves.

The rule of `size="auto"`: the vocabulary of a text of n characters grows about with √n (Heaps 1978), so it is
the power of two nearest √n, between 512 and 8,192.

The same corpus gives the same tokeniser to the byte.  The library's own trainer of unigram models goes through
a hash table in an order that changes from run to run, and its sums with it; here the candidates are the pieces
of four times as many byte pairs, and hard expectation-maximisation (Viterbi counts, then the least used
pieces dropped, in rounds) runs over the words in their order.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from kuosan.errors import UserError
from kuosan.modalities.base import Choice
from kuosan.modalities.tokeniser import END, Tokeniser, byte_letters, without_surrogates

KINDS = ("characters", "bytes", "bpe", "unigram")
SMALL_CORPUS = 200_000  # characters
RICH_ALPHABET = 6.0  # bits per character
FEWEST_TOKENS, MOST_TOKENS = 512, 8_192
FEW_CHARACTERS = 256  # an alphabet up to this size is kept whole
_BYTES = 256
_ROUNDS = 6


def train_tokeniser(
    texts: Sequence[str], kind: str = "auto", size: int | str = "auto"
) -> tuple[Tokeniser, list[Choice]]:
    """A tokeniser of these texts, and why it is as it is.

    `size` counts all tokens, END among them; a corpus may not have enough to fill it.  Raises `UserError` for
    a kind or a size that cannot be.
    """
    if kind not in ("auto", *KINDS):
        raise UserError(f"'{kind}' is no kind of tokeniser; choose one of: auto, {', '.join(KINDS)}.")
    if size != "auto" and (not isinstance(size, int) or size < _BYTES + 2):
        raise UserError(f"A vocabulary of {size} is too small: 256 bytes and END need 258; ask for more.")
    texts = [without_surrogates(text) for text in texts]
    counts = Counter[str]()
    for text in texts:
        counts.update(text)
    n, bits = counts.total(), _entropy(counts)
    choices: list[Choice] = []
    if kind == "auto":
        kind, why = _choose_kind(n, len(counts), bits)
        choices.append(("tokeniser", kind, why))
    if size != "auto" and kind != "bytes":
        wanted, why = int(size), "as asked for"
    else:
        wanted, why = _choose_size(n), f"the power of two nearest the square root of {n:,} characters"
    if kind == "characters":
        library, why = _characters(counts, None if size == "auto" else wanted)
    elif kind == "bytes":
        library, why = _byte_level(models.BPE(vocab=_alphabet(), merges=[])), "256 bytes and END"
    elif kind == "bpe":
        library = _bpe(texts, wanted)
    else:
        library = _unigram(texts, wanted)
    tokeniser = Tokeniser.from_json(library.to_str().encode("utf-8"))
    return tokeniser, [*choices, ("vocabulary", f"{tokeniser.size:,} tokens", why)]


def _choose_kind(n: int, alphabet: int, bits: float) -> tuple[str, str]:
    if n < SMALL_CORPUS:
        return "characters", f"{n:,} characters are too few to learn longer pieces from"
    if bits > RICH_ALPHABET:
        return (
            "characters",
            f"{alphabet:,} different characters, each of {bits:.1f} bits, say much by themselves",
        )
    return "bpe", f"{n:,} characters of {bits:.1f} bits each: pieces that return often are worth a token"


def _choose_size(n: int) -> int:
    size = 1 << round(math.log2(max(1.0, math.sqrt(n))))
    return max(FEWEST_TOKENS, min(MOST_TOKENS, size))


def _entropy(counts: Counter[str]) -> float:
    """Bits per character, each on its own."""
    n = counts.total()
    return -sum(c / n * math.log2(c / n) for _, c in sorted(counts.items()))


def _characters(counts: Counter[str], size: int | None) -> tuple[Library, str]:
    known = dict(counts)
    why = f"all {len(known):,} characters of the texts"
    if len(known) > FEW_CHARACTERS:
        known = {character: count for character, count in known.items() if count > 1}
        why = f"{len(known):,} characters that occur twice or more"
    if size is not None and len(known) > size - _BYTES - 1:
        known = dict(sorted(known.items(), key=lambda item: (-item[1], item[0]))[: size - _BYTES - 1])
        why = f"the {len(known):,} commonest characters"
    vocabulary = {character: i for i, character in enumerate(sorted(known))}
    for byte in range(_BYTES):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    library = Library(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    library.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return _ended(library), f"{why}, 256 bytes for all others, and END"


def _alphabet() -> dict[str, int]:
    return dict(sorted(byte_letters().items(), key=lambda item: item[1]))


def _byte_level(model: Any) -> Library:
    library = Library(model)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return _ended(library)


def _ended(library: Library) -> Library:
    library.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return library


def _bpe(texts: Sequence[str], size: int) -> Library:
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1, initial_alphabet=sorted(byte_letters()), show_progress=False
    )
    library.train_from_iterator(iter(texts), trainer)
    return _ended(library)


def _unigram(texts: Sequence[str], size: int) -> Library:
    """Hard EM from the pieces of byte pairs; single bytes are never dropped (module docstring)."""
    start = _bpe(texts, 4 * size)
    pieces = sorted(json.loads(start.to_str())["model"]["vocab"])
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = Counter[str]()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(text))
    ordered = sorted(words.items())
    counts = Counter[str]()
    for word, count in ordered:
        for token in start.model.tokenize(word):
            counts[token.value] += count
    steps = [round(len(pieces) * (size / len(pieces)) ** (r / _ROUNDS)) for r in range(1, _ROUNDS + 1)]
    for step in [*steps, size]:
        model = models.Unigram(_scored(pieces, counts))
        counts = Counter()
        for word, count in ordered:
            for token in model.tokenize(word):
                counts[token.value] += count
        keep = min(step, size - 1) if step <= size else step
        single = [piece for piece in pieces if len(piece) == 1]
        longer = sorted((p for p in pieces if len(p) > 1 and counts[p]), key=lambda p: (-counts[p], p))
        pieces = sorted([*single, *longer[: max(0, keep - len(single))]])
    return _byte_level(models.Unigram(_scored(pieces, counts)))


def _scored(pieces: Sequence[str], counts: Counter[str]) -> list[tuple[str, float]]:
    """Log-probabilities; one more of each than was counted, so that a byte never seen can still be spelt."""
    total = sum(counts[piece] + 1 for piece in pieces)
    scored = [(piece, math.log((counts[piece] + 1) / total)) for piece in pieces]
    return sorted(scored, key=lambda item: (-item[1], item[0]))
