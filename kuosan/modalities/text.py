"""Texts: files on one side, token numbers (b, L) on the other.

    encode(text) = the first L tokens of the text, then END up to L                                       (1)
    decode(x)    = the text of the tokens before the first END                                            (2)

(2) undoes (1) for every text of at most L tokens; a longer one loses what is behind them.  Files are read in
any common encoding and written as UTF-8, without a mark and without anything added: `read(write(text))` is the
text, but for "\\r\\n", which reading turns into "\\n", and for a byte-order mark at the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities.base import Gathered, Modality, Read, Spec, Unreadable, register
from kuosan.modalities.folder import Folder
from kuosan.modalities.kinds import SUFFIXES
from kuosan.modalities.ragged import Ragged
from kuosan.modalities.text_gather import gather_text
from kuosan.modalities.text_read import read_text
from kuosan.modalities.text_sheet import text_sheet
from kuosan.modalities.tokeniser import FILE, Tokeniser, without_surrogates


@register
class TextModality(Modality[str]):
    """Texts of up to `length` tokens of one tokeniser."""

    name: ClassVar[str] = "text"
    suffixes: ClassVar[tuple[str, ...]] = (*SUFFIXES["text"], ".json")
    noun: ClassVar[str] = "texts"
    remark: ClassVar[str] = (
        "synthetic: written by a model; not for care, and no record of anything that happened"
    )

    def __init__(self, tokeniser: Tokeniser, length: int) -> None:
        self.tokeniser = tokeniser
        self.length = length

    def __repr__(self) -> str:
        return f"TextModality({self.tokeniser!r}, {self.length})"

    @property
    def shape(self) -> tuple[int]:
        """(L,) of one state."""
        return (self.length,)

    @classmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """See `gather_text`, also for the options."""
        return gather_text(folder, cls, like if isinstance(like, TextModality) else None, **options)

    def spec(self) -> Spec:
        return {"modality": self.name, "length": self.length}

    def files(self) -> dict[str, bytes]:
        """The tokeniser, as the `tokenizers` library saves it."""
        return {FILE: self.tokeniser.to_json()}

    @classmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> TextModality:
        if read is None:
            raise UserError(
                f"A model of texts needs its {FILE}, which stands beside its recipe; keep them together."
            )
        return cls(Tokeniser.from_json(read(FILE)), int(spec["length"]))

    def read(self, path: Path | str) -> str:
        """The text of a file of one text.  Raises `Unreadable`."""
        try:
            return read_text(Path(path))
        except Unreadable as error:
            raise Unreadable(error.reason, path) from None

    def write(self, raw: str, path: Path | str) -> Path:
        """Writes the text in UTF-8 and nothing else; a path without suffix gets `.txt`."""
        path = Path(path)
        path = path if path.suffix else path.with_suffix(".txt")
        path.write_bytes(without_surrogates(raw).encode("utf-8"))
        return path

    def encode(self, raws: Sequence[str]) -> Int64[Tensor, "b l"]:
        """States of texts by equation (1)."""
        x = torch.full((len(raws), self.length), self.tokeniser.end, dtype=torch.int64)
        for row, raw in zip(x, raws, strict=True):
            ids = self.tokeniser.encode_array(raw)[: self.length]
            row[: len(ids)] = torch.from_numpy(ids)
        return x

    def decode(self, x: Int64[Tensor, "b l"]) -> list[str]:
        """Texts of states by equation (2); masked places, numbered `size`, are shown as ░."""
        return [self.tokeniser.decode(ids) for ids in x.tolist()]

    def to_state(self, storage: Ragged, seeds: Seeds | None = None) -> Int64[Tensor, "b l"]:
        """Passages (b) as states; with seeds the windows slide (`ragged`, equation 2)."""
        return storage.windows(self.length, self.tokeniser.end, seeds).long()

    def confine(self, storage: Ragged) -> Ragged:
        """Passages whose windows stay among these passages."""
        return storage.confined()

    def works(self, storage: Ragged) -> list[str]:
        """The texts that passages are of, as far as these cover them without a gap."""
        return [self.tokeniser.decode(ids.tolist()) for ids in storage.joined()]

    def show(self, raws: Sequence[str], columns: int | None = None, scale: int | None = None) -> Image.Image:
        """All texts on one sheet; see `text_sheet`."""
        return text_sheet(raws, columns, scale)
