"""Tokenisers: whatever the text, it comes back to the letter; and the same corpus gives the same tokeniser."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from kuosan.errors import UserError
from kuosan.modalities import Tokeniser, read_tokeniser, train_tokeniser
from kuosan.modalities.tokeniser import END, byte_letters
from kuosan.modalities.tokeniser_training import KINDS

WORDS = ["the", "river", "runs", "under", "an", "old", "bridge", "and", "willows", "weep", "over", "it"]


def corpus(n: int = 400, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 12)) + ".\n" for _ in range(n)]


TRAINED = {kind: train_tokeniser(corpus(), kind, 400)[0] for kind in KINDS}
AWKWARD = [
    "", " ", "  two  blanks  ", "\n",
    "\r\n", "a\r\nb\rc", "\t\t", "\n\n\n x", "x \n", "<0x0A>", "<0xE4><0xB8>", "END",
    END, f"the {END} of it", "▁", "Ġthe", "Ċ", "秋风起兮白云飞",
    "😀👩‍👩‍👧‍👦", "e\u0301é", "\ufffd", "\ufeffmark", "\0\x01",
    "ﬁ", "\u2028\u2029\x85", "[CLS]", "##ing", "a" * 3_000, "中" * 500,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", AWKWARD, ids=range(len(AWKWARD)))
def test_awkward_texts_come_back(kind: str, text: str) -> None:
    check(TRAINED[kind], text)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(text=st.text(max_size=60))
def test_every_text_comes_back(kind: str, text: str) -> None:
    check(TRAINED[kind], text)


def check(tokeniser: Tokeniser, text: str) -> None:
    ids = tokeniser.encode(text)
    assert tokeniser.decode(ids) == text
    assert b"".join(tokeniser.pieces[i] for i in ids) == text.encode("utf-8")
    assert all(0 <= i < tokeniser.size for i in ids) and tokeniser.end not in ids
    assert tokeniser.decode([*ids, tokeniser.end, 0, 1]) == text, "all from END on is dropped"
    assert tokeniser.encode_array(text).tolist() == ids


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_tokeniser_is(kind: str) -> None:
    tokeniser = TRAINED[kind]
    assert tokeniser.kind == kind and tokeniser.exact and tokeniser.loss(AWKWARD) == 0
    assert len(tokeniser.pieces) == tokeniser.size and tokeniser.pieces[tokeniser.end] == b""
    others = [piece for i, piece in enumerate(tokeniser.pieces) if i != tokeniser.end]
    assert all(others) and {bytes([b]) for b in range(256)} <= set(others)
    if kind in ("bpe", "unigram"):
        assert b" bridge" in others and len(set(others)) == len(others)
    again = Tokeniser.from_json(tokeniser.to_json())
    assert (again.kind, again.size, again.end, again.pieces) == (
        tokeniser.kind,
        tokeniser.size,
        tokeniser.end,
        tokeniser.pieces,
    )
    assert again.to_json() == tokeniser.to_json() and again.encode(AWKWARD[17]) == tokeniser.encode(
        AWKWARD[17]
    )


def test_characters_cost_one_token_each_and_pieces_fewer() -> None:
    text = "".join(corpus(20, 5))
    assert len(TRAINED["characters"].encode(text)) == len(text) == len(TRAINED["bytes"].encode(text))
    for kind in ("bpe", "unigram"):
        assert len(TRAINED[kind].encode(text)) < len(text) / 3  # the words of the corpus are tokens


@pytest.mark.parametrize("kind", KINDS)
def test_long_texts_are_cut_where_it_changes_nothing(kind: str) -> None:
    indented = [line.strip() + "\n" * (i % 4) + " " * (i % 5) for i, line in enumerate(corpus(2_500, 9))]
    tokeniser, _ = train_tokeniser(indented[:300], kind, 400)
    text = "".join(indented) + "中文" * 20_000
    assert len(text) > 3 << 16
    assert tokeniser.encode(text) == tokeniser.library.encode(text, add_special_tokens=False).ids


def test_what_a_model_may_write_is_shown() -> None:
    tokeniser = TRAINED["bytes"]
    assert tokeniser.decode([0xE4, 0x41]) == "\ufffdA"
    masked = [*tokeniser.encode("ab"), tokeniser.size, *tokeniser.encode("c")]
    assert tokeniser.decode(masked) == "ab░c"
    assert tokeniser.decode(tokeniser.encode("a\ud800b")) == "a\ufffdb"


def test_the_choice_follows_the_corpus() -> None:
    rng = np.random.default_rng(4)
    small = corpus(50)
    large = corpus(6_000)
    ideographs = ["".join(map(chr, 0x4E00 + rng.integers(0, 800, 100))) for _ in range(2_500)]
    for texts, kind in ((small, "characters"), (large, "bpe"), (ideographs, "characters")):
        tokeniser, reasons = train_tokeniser(texts)
        assert tokeniser.kind == kind and reasons[0][:2] == ("tokeniser", kind)
    assert train_tokeniser(ideographs)[0].size == 800 + 256 + 1


def test_automatic_sizes_grow_with_the_square_root_and_are_bounded() -> None:
    from kuosan.modalities.tokeniser_training import _choose_size

    assert [_choose_size(n) for n in (0, 1_000, 2**20, 2**24, 2**40)] == [512, 512, 1_024, 4_096, 8_192]


def test_rare_characters_are_spelt_in_bytes() -> None:
    rng = np.random.default_rng(1)
    common = [chr(c) for c in range(0x4E00, 0x4E00 + 300)]
    text = "".join(rng.permutation(common * 3)) + "龘"
    tokeniser, _ = train_tokeniser([text], "characters")
    assert tokeniser.size == 300 + 256 + 1
    assert [len(tokeniser.encode(c)) for c in ("龘", common[0])] == [3, 1]
    bounded, _ = train_tokeniser([text, common[5] * 9], "characters", 256 + 1 + 10)
    assert bounded.size == 267 and len(bounded.encode(common[5])) == 1


def test_sizes_are_kept_and_impossible_ones_refused() -> None:
    assert TRAINED["bytes"].size == 257 and TRAINED["characters"].size == 257 + len(set("".join(corpus())))
    text = ["".join(f"{a}{b}{c} " for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwx")] * 3
    for kind in ("bpe", "unigram"):
        assert train_tokeniser(text, kind, 300)[0].size == 300
    with pytest.raises(UserError, match="258"):
        train_tokeniser(corpus(), "bpe", 100)
    with pytest.raises(UserError, match="characters, bytes, bpe, unigram"):
        train_tokeniser(corpus(), "words")


SCRIPT = """
import hashlib
from tests.modalities.test_tokeniser import TRAINED
print(*(hashlib.sha256(t.to_json()).hexdigest() for t in TRAINED.values()))
"""


def test_the_same_corpus_gives_the_same_bytes_in_another_process() -> None:
    here = [hashlib.sha256(t.to_json()).hexdigest() for t in TRAINED.values()]
    root = Path(__file__).resolve().parents[2]
    there = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": str(root)},
        capture_output=True, text=True, check=True, cwd=root,
    )  # fmt: skip
    assert there.stdout.split() == here


def wordpiece() -> Library:
    """As BERT's: lower case, no accents, unknown words lost."""
    library = Library(
        models.WordPiece({"[UNK]": 0, "[CLS]": 1, "river": 2, "##s": 3, "the": 4}, unk_token="[UNK]")
    )
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    library.add_special_tokens(["[CLS]"])
    return library


def test_a_lossy_tokeniser_of_others_says_so(tmp_path: Path) -> None:
    wordpiece().save(str(tmp_path / "tokenizer.json"))
    tokeniser = read_tokeniser(tmp_path)
    assert not tokeniser.exact and tokeniser.kind == "wordpiece"
    assert tokeniser.loss(["the rivers", "The river", "a", "the"]) == 2
    assert tokeniser.pieces[2:5] == (b" river", b"s", b" the") and tokeniser.end == tokeniser.size - 1 == 5
    assert 1 not in tokeniser.encode("[CLS] the"), "a text that names a special token is a text"
    again = Tokeniser.from_json(tokeniser.to_json())
    assert again.size == 6 and again.end == 5, "END is added once"


def test_byte_level_tokenisers_of_others_are_exact(tmp_path: Path) -> None:
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=sorted(byte_letters()),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    library.train_from_iterator(corpus(), trainer)
    library.enable_truncation(5)
    path = tmp_path / "gpt.json"
    library.save(str(path))
    tokeniser = read_tokeniser(path)
    assert tokeniser.exact and tokeniser.kind == "bpe" and tokeniser.size == library.get_vocab_size() + 1
    for text in [*AWKWARD, "<|endoftext|>", "the river " * 50]:
        check(tokeniser, text)
    form = json.loads(library.to_str())
    form["normalizer"] = {"type": "NFC"}
    changed = Tokeniser.from_json(json.dumps(form).encode())
    assert not changed.exact and changed.loss(["e\u0301", "e"]) == 1


def test_sentencepiece_tokenisers_of_others_show_their_blanks() -> None:
    pieces = [("<unk>", 0.0), ("▁river", -1.0), ("s", -2.0), ("<0x41>", -9.0)]
    library = Library(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokeniser = Tokeniser.from_json(library.to_str().encode())
    assert tokeniser.kind == "unigram" and not tokeniser.exact
    assert tokeniser.pieces[1:4] == (b" river", b"s", b"A")
    assert tokeniser.decode(tokeniser.encode("rivers river")) == "rivers river"


def test_what_is_no_tokeniser_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        read_tokeniser(tmp_path)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokeniser"):
        read_tokeniser(tmp_path / "x.json")
