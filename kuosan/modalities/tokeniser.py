"""Text as numbers and back, without loss.

A tokeniser of Kuosan's own gives back every text to the letter,

    b"".join(pieces[i] for i in encode(text)) == text.encode("utf-8")                                    (1)

also characters that it never saw: each of the 256 bytes has a token of its own, which costs a row of the
embedding and nothing else.  Four kinds, all built on the `tokenizers` library:

    characters   a token per character of the corpus; any other character is spelt in bytes
    bytes        a token per byte of UTF-8
    bpe          byte pairs merged by frequency (Sennrich et al. 2016; on bytes: Radford et al. 2019)
    unigram      pieces of a unigram language model (Kudo 2018), on bytes likewise

One more token, END, fills what is left behind a text.  It is no piece of any text: one that contains the
words "<end of text>", or "<0x0A>", is spelt like any other.

A tokeniser of somebody else's (`tokenizer.json` as Hugging Face saves it) is used as it is, END added.  It may
lose something (lower case, accents, white space): `loss` counts what it does not give back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken
from tokenizers import Tokenizer as Library

from kuosan.errors import UserError

FILE = "tokenizer.json"
END = "<end of text>"
HIDDEN = "░"  # what a masked place is shown as
BYTE_FALLBACK = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}

_CHUNK = 1 << 16  # characters handed over at a time: the library keeps a hundred bytes for each
_TOGETHER = 32  # of them at once, on all cores
# a line end that stands alone: pre-tokenisers in use make the same of it with nothing behind it
_BREAK = re.compile(r"(?<=\S)\n(?=\S)")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SURROGATE = re.compile("[\ud800-\udfff]")
_KINDS = {"BPE": "bpe", "Unigram": "unigram", "WordPiece": "wordpiece", "WordLevel": "words"}


@dataclass(frozen=True, eq=False)
class Tokeniser:
    """Numbers 0 … size - 1 for pieces of text; made by `from_json`, `read_tokeniser` or `train_tokeniser`.

    `kind` is one of the module's four, or "wordpiece" or "words" where somebody else's is; `end` is the
    number of END; `pieces` the UTF-8 bytes of each token (b"" for END, and where a number is not in use);
    `exact` says that equation (1) holds by construction.
    """

    library: Library
    kind: str
    size: int
    end: int
    pieces: tuple[bytes, ...]
    exact: bool

    def __repr__(self) -> str:
        return f"Tokeniser({self.kind}, {self.size:,} tokens)"

    @classmethod
    def from_json(cls, data: bytes) -> Tokeniser:
        """The inverse of `to_json`.  Raises `UserError` where it is not a tokeniser."""
        try:
            form = json.loads(data)
            library = Library.from_str(data.decode("utf-8"))
        except Exception as error:  # the library raises its errors as plain Exception
            raise UserError(f"{FILE} is not a tokeniser ({error}); give one saved by `tokenizers`.") from None
        library.no_truncation()
        library.no_padding()
        library.add_special_tokens([AddedToken(END, special=True, normalized=False)])
        library.encode_special_tokens = True  # a text that contains the name of a special token is a text
        size = max(library.get_vocab(with_added_tokens=True).values()) + 1
        end = library.get_vocab(with_added_tokens=True)[END]
        names = [library.id_to_token(i) for i in range(size)]
        added = {token["id"] for token in form["added_tokens"]}
        pieces = [_piece(name, i in added, form) for i, name in enumerate(names)]
        pieces[end] = b""
        return cls(library, _kind(form), size, end, tuple(pieces), _is_exact(form, pieces))

    def to_json(self) -> bytes:
        """The library's own form, as it is saved in tokenizer.json."""
        return self.library.to_str().encode("utf-8")

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text; "" has none.  Half a surrogate pair is no text and becomes U+FFFD."""
        return [number for part in self._numbers(text) for number in part]

    def encode_array(self, text: str) -> NDArray[np.int32]:
        """`encode` for long texts."""
        parts = [np.array(part, np.int32) for part in self._numbers(text)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token numbers, which ends before the first END.

        A number from `size` on is a masked place and is shown as ░.  Bytes that are not UTF-8, which no text
        encodes to but a model may well write, become U+FFFD.
        """
        ids = list(ids)
        ids = ids[: ids.index(self.end)] if self.end in ids else ids
        if self.exact:
            hidden = HIDDEN.encode()
            joined = b"".join(self.pieces[i] if i < self.size else hidden for i in ids)
            return joined.decode("utf-8", "replace")
        texts, run = [], []
        for i in [*ids, self.size]:
            if i < self.size:
                run.append(i)
                continue
            texts.append(self.library.decode(run, skip_special_tokens=False))
            run = []
        return HIDDEN.join(texts)

    def loss(self, texts: Sequence[str]) -> int:
        """How many of the texts `decode` does not give back to the letter."""
        return 0 if self.exact else sum(self.decode(self.encode(text)) != text for text in texts)

    def _numbers(self, text: str) -> Iterator[list[int]]:
        parts = list(self._parts(without_surrogates(text)))
        for i in range(0, len(parts), _TOGETHER):
            for encoding in self.library.encode_batch_fast(
                parts[i : i + _TOGETHER], add_special_tokens=False
            ):
                yield encoding.ids

    def _parts(self, text: str) -> Iterator[str]:
        """Parts of a long text, cut where the cut changes nothing; others' tokenisers get it whole."""
        start = 0
        while self.exact and len(text) - start > _CHUNK:
            if self.kind in ("characters", "bytes"):
                stop = start + _CHUNK
            else:
                found = _BREAK.search(text, start + _CHUNK)
                if found is None:
                    break
                stop = found.end()
            yield text[start:stop]
            start = stop
        if start < len(text):
            yield text[start:]


def read_tokeniser(path: Path | str) -> Tokeniser:
    """A tokenizer.json, or a folder that holds one.  Raises `UserError`."""
    path = Path(path).expanduser()
    file = path / FILE if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"The tokeniser {file} cannot be read ({error.strerror}); give a {FILE} or a folder with one."
        ) from None
    return Tokeniser.from_json(data)


def without_surrogates(text: str) -> str:
    """The text with U+FFFD for every half of a surrogate pair, which UTF-8 cannot write."""
    return _SURROGATE.sub("\ufffd", text)


def byte_letters() -> dict[str, int]:
    """The letter that stands for each byte in byte-level vocabularies (Radford et al. 2019).

    Printable Latin-1 characters stand for themselves, the other 68 bytes for U+0100 … in their order.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}


_LETTERS = byte_letters()


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A pipeline's steps, whether it is one step or a sequence of them."""
    if part is None:
        return []
    inner = part.get("decoders") or part.get("pretokenizers") or part.get("normalizers")
    return list(inner) if part["type"] == "Sequence" and inner is not None else [part]


def _types(part: dict[str, Any] | None) -> list[str]:
    return [str(step["type"]) for step in _steps(part)]


def _kind(form: dict[str, Any]) -> str:
    model = form["model"]
    merges = model.get("merges")
    if model["type"] == "BPE" and not merges:
        return "characters" if model.get("byte_fallback") else "bytes"
    return _KINDS.get(model["type"], model["type"].lower())


def _piece(name: str | None, added: bool, form: dict[str, Any]) -> bytes:
    """The bytes of a token, by the way in which its tokeniser writes them."""
    if name is None or added:
        return (name or "").encode("utf-8")
    decoders = _types(form["decoder"])
    if "ByteLevel" in decoders and all(letter in _LETTERS for letter in name):
        return bytes(_LETTERS[letter] for letter in name)
    byte = _BYTE.fullmatch(name)
    if "ByteFallback" in decoders and byte:
        return bytes([int(byte[1], 16)])
    if "WordPiece" in decoders:
        prefix = form["decoder"].get("prefix", "##")
        name = name[len(prefix) :] if name.startswith(prefix) else " " + name
    elif form["decoder"] != BYTE_FALLBACK:
        name = name.replace("▁", " ")
    return name.encode("utf-8")


def _is_exact(form: dict[str, Any], pieces: Sequence[bytes]) -> bool:
    """Whether nothing is changed before pieces are looked up, and every byte has one."""
    if form["normalizer"] is not None or not {bytes([byte]) for byte in range(256)} <= set(pieces):
        return False
    if form["decoder"] == BYTE_FALLBACK:
        return form["pre_tokenizer"] is None and bool(form["model"].get("byte_fallback"))
    before = _steps(form["pre_tokenizer"])
    if _types(form["decoder"]) != ["ByteLevel"] or not before or before[-1]["type"] != "ByteLevel":
        return False
    kept = all(step["type"] == "Split" and step["behavior"] != "Removed" for step in before[:-1])
    return kept and not before[-1]["add_prefix_space"]
