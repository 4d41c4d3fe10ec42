"""What every kind of data offers to the rest of Kuosan: files on one side, states on the other.

A modality is a pair of maps between the files of a person and tensors,

    file --read--> raw --encode--> state        state --decode--> raw --write--> file          (1)

with the law that decode(encode(raw)) is raw, or that the loss is stated and bounded.  It knows nothing of
diffusion: it could feed any model.  A modality is immutable; what it learned from a folder (sizes, ranges,
vocabularies) is in `spec()`, from which `modality_from_spec` builds it again without the folder; what is too
large for a recipe (a tokeniser) is in `files()`, which are kept beside it.

The state of one modality is one tensor; joint states are put together from several modalities elsewhere.

A data set is kept in memory in a compact form, the *storage* (bytes for 8-bit pictures, token numbers for
text).  `to_state` turns a slice of storage into a state, fast: the training loop calls it at every step.

A new modality is one file: a subclass decorated with `@register`, and a line in `kinds.py` for its suffixes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from kuosan.core.random import Seeds
from kuosan.errors import UserError
from kuosan.modalities.places import places

if TYPE_CHECKING:
    from PIL import Image

    from kuosan.modalities.folder import Folder

Raw = TypeVar("Raw")
Spec = dict[str, Any]
Read = Callable[[str], bytes]  # the contents of a file that stands beside the recipe, by its name
# A Tensor (n …), or `Ragged` where items differ in length. Which of them is settled by the modality.
Storage: TypeAlias = Any
Choice = tuple[str, str, str]  # (what, value, why)
Skip = tuple[str, str]  # (file name, plain reason)

MANY_VALUES = 1_000  # a column with more distinct values than this is not a condition


class Unreadable(UserError):
    """One file that cannot be read; `reason` is the plain reason without the file's name."""

    def __init__(self, reason: str, path: Path | str | None = None) -> None:
        self.reason = reason
        where = f"{path}: " if path is not None else ""
        super().__init__(f"{where}{reason}; mend or remove this file and try again.")


@dataclass(frozen=True)
class Gathered:
    """The items of a folder in storage form, before they are split (n items, in the order of their names).

    `hashes` are 32-byte digests of each item's decoded content before resizing; `columns` hold one value per
    item (None where unknown), and those in `declared` are conditions even where they have many values;
    `sides` say "train" or "val" where the folder decides, and "" where Kuosan does.  Items of one of `groups`
    stay on one side (by default, items of one hash); items of one hash have one group.  Where items are parts of
    works, `firsts` are the first of each: columns describe works, so these decide what a condition is.
    `totals` counts what else there is to count, by name, and `duplicates` says what copies there are that are
    not exact.  `reached` are values of columns that no item has, but that a view of one can have.  `split_why` says
    why `sides` are as they are, where that was not the folder's doing.
    """

    modality: Modality[Any]
    storage: Storage
    hashes: list[bytes]
    names: list[str]
    columns: dict[str, list[str | None]]
    declared: frozenset[str]
    sides: list[str]
    captions: list[str]
    histograms: dict[str, dict[str, int]]
    failed: list[Skip]
    left_out: list[Skip] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    groups: list[bytes] | None = None
    firsts: list[int] | None = None
    totals: dict[str, float] = field(default_factory=dict)
    duplicates: dict[str, Any] = field(default_factory=dict)
    reached: dict[str, list[str]] = field(default_factory=dict)
    split_why: str = ""


class Modality(ABC, Generic[Raw]):
    """Reads and writes one kind of file; see the module's equation (1)."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    noun: ClassVar[str]
    """What items are called, in the plural: "pictures"."""

    axes: ClassVar[tuple[str, ...]] = ()
    """Sides of a state behind its channels, of "time", "frequency", "pitch", "depth", "height" and "width";
    none of tokens."""

    files_of: ClassVar[str] = ""
    """The modality that folders of its files are of, where that is another one, which decides between them."""

    formats: ClassVar[tuple[str, ...]] = ()
    """Kinds of files that `write` can be asked for, by their suffixes without dots, its own choice first."""

    ending: ClassVar[float] = 0.0
    """Seconds of one core that drawing and measuring such items take at the end of a run, beyond those of pictures."""

    whole: ClassVar[tuple[str, ...]] = ()
    """Those of `axes` along which a transformer's patches are not cut: what lies along them is of one moment."""

    unordered: ClassVar[bool] = False
    """Whether the places along its only axis have no order, so that any order of them is the same item."""

    remark: ClassVar[str] = ""
    """What every file that a model makes must say of itself; kept in a table beside the files."""

    def shelves(self, storage: Storage) -> list[Tensor]:
        """The places in storage of the items of each shape, where `to_state` with seeds takes items of one; mostly
        none: all are of one."""
        return []

    @property
    def beside_channels(self) -> int:
        """How many numbers stand beside every place of a state, in the condition `BESIDE` of `labels`; mostly none."""
        return 0

    def small(self, storage: Storage) -> Tensor:
        """What has to be kept of what stands beside items, to show it again without them."""
        raise ValueError(f"nothing stands beside {self.noun}")

    def shown(self, small: Tensor) -> Tensor:
        """The condition `BESIDE` of what was kept."""
        raise ValueError(f"nothing stands beside {self.noun}")

    @property
    def beside_whole(self) -> Tensor | None:
        """What stands beside an item of this size of which nothing else is known (1, k, *sides); None where somebody
        has to say it."""
        return None

    @property
    def level(self) -> float | None:
        """How far apart two neighbouring values of a state are; None where they are continuous, or tokens."""
        return None

    @property
    def scale(self) -> float:
        """How much of a file's own unit 1 is in a state: differences of states in units are so many times as large."""
        return 1.0

    @property
    def of_samples(self) -> Modality[Raw]:
        """What decodes and writes samples, which may be corrected where real items need not be."""
        return self

    @property
    def most_decoded(self) -> int:
        """How many items of a set are decoded at most, to measure them; fewer where decoding takes long."""
        return 1000

    @property
    def compared_axes(self) -> tuple[str, ...]:
        """The `axes` of what `compared` gives."""
        return self.axes

    def compared(self, x: Tensor) -> Tensor:
        """States as something whose numbers can be compared one by one: themselves, where these have places."""
        return x

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one state: channels and one number for each of `axes`, or of tokens how many there are."""

    def described_form(self) -> str:
        """What one state is, for a sentence that begins with how many: "grey pictures of 28×28 pixels"."""
        return f"{self.noun} of {'×'.join(map(str, self.shape))} values"

    @classmethod
    def spoken(cls, folder: Folder) -> Folder:
        """The folder as reports may speak of it: names of files can be names of people."""
        return folder

    @classmethod
    @abstractmethod
    def gather(cls, folder: Folder, like: Modality[Any] | None, **options: Any) -> Gathered:
        """All items of a folder in one common form: the form of `like`, else one chosen from the data."""

    @abstractmethod
    def spec(self) -> Spec:
        """Everything needed to build this modality again, JSON-able; `spec()["modality"]` is its name."""

    def resolved(self) -> dict[str, Any]:
        """Leaves of a recipe's data as they came to be, where they were left to the modality: {"rate": 8000.0}."""
        return {}

    def files(self) -> dict[str, bytes]:
        """What must be kept beside the recipe to build this modality again, by file name; mostly nothing."""
        return {}

    @classmethod
    @abstractmethod
    def from_spec(cls, spec: Spec, read: Read | None = None) -> Modality[Raw]:
        """The inverse of `spec`; `read` gives back the `files`."""

    def confine(self, storage: Storage) -> Storage:
        """Storage of one side of a split, in which nothing can be seen of the other side's items."""
        return storage

    def labels(
        self,
        labels: dict[str, Tensor],
        words: Mapping[str, Sequence[str]],
        storage: Storage,
        seeds: Seeds | None,
    ) -> dict[str, Tensor]:
        """The condition indices of the views that `to_state` gives for the same arguments; mostly the items' own."""
        return labels

    def described(self, raws: Sequence[Raw], columns: Mapping[str, Sequence[str | None]]) -> list[Raw]:
        """Items that say of themselves what they were asked for, by column, as far as their files can."""
        return list(raws)

    @abstractmethod
    def read(self, path: Path | str) -> Raw:
        """One item from a file.  Raises `Unreadable`."""

    @abstractmethod
    def write(self, raw: Raw, path: Path | str) -> Path:
        """Writes one item; returns the path written."""

    @abstractmethod
    def encode(self, raws: Sequence[Raw]) -> Tensor:
        """States of items, stacked along the first axis."""

    @abstractmethod
    def decode(self, x: Tensor) -> list[Raw]:
        """Items of states; undoes `encode`."""

    @abstractmethod
    def to_state(self, storage: Storage, seeds: Seeds | None = None) -> Tensor:
        """States of a slice of storage (b …): float32, or int64 where they are tokens; vectorised.

        With `seeds`, one per item, each is drawn from the views that its storage allows; without, it is the
        item as it stands.
        """

    def places(self, axis: str, text: str) -> range:
        """The places along one of `axes` that a person means by "12", "3-8" (with both ends), "25%-50%", "first" or
        "last"; modalities also know their own units.

        Raises:
            UserError: no such axis, or places that it does not have.
        """
        if axis not in self.axes:
            raise UserError(
                f"{self.noun} have no axis '{axis}': it can be {', '.join(self.axes) or 'none at all'}"
            )
        return places(text, axis, self.shape[1 + self.axes.index(axis)], self.units(axis))

    def region(self, axis: str, text: str, x: Tensor) -> Tensor:
        """Which numbers of states (b, c, *sides) lie there, true or false of each, of one for all: see `places`."""
        found = self.places(axis, text)
        inside = torch.zeros(1, *self.shape, dtype=torch.bool)
        inside[(slice(None),) * (2 + self.axes.index(axis)) + (slice(found.start, found.stop),)] = True
        return inside

    def showing(self, x: Tensor, mask: Tensor) -> Tensor:
        """States of which only what is true in `mask` can be seen."""
        return x.masked_fill(~mask, 0.0)

    @property
    def feet(self) -> Callable[[Tensor], Tensor] | None:
        """How fast feet go in the world, of states, where these have feet: a function that can be differentiated."""
        return None

    @property
    def smooth(self) -> range:
        """Channels that change smoothly along the sides."""
        return range(self.shape[0])

    def units(self, axis: str) -> Mapping[str, float]:
        """Places along one of `axes` per unit of it, by the letters behind a number: {"s": 25.0, "frames": 1.0}."""
        return {}

    def count(self, axis: str, text: str) -> int:
        """How many places along one of `axes` a length is: "4s", "120frames", "120".

        Raises:
            UserError: it cannot be read, or is less than a place.
        """
        units = self.units(axis)
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
        if not found or found[2] not in ("", *units):
            ways = " or ".join(["120", *(f"4{unit}" for unit in units)])
            raise UserError(f"'{text}' is no length along {axis}: write it like {ways}")
        if (count := round(float(found[1]) * units.get(found[2], 1.0))) < 1:
            raise UserError(f"'{text}' is less than one place along {axis}: give a longer one")
        return count

    def own_sides(self, data: Path) -> tuple[int, ...] | None:
        """The sides of the items of a file or a folder, where they are not brought to those of this form; None where
        they are.

        Raises:
            UserError: items of several sizes, or none.
        """
        return None

    @property
    def groups(self) -> Mapping[str, Sequence[int]]:
        """Channels that belong together, by name: parts of a body, colour and depth. None where all do."""
        return {}

    def sized(self, sides: Sequence[int]) -> Modality[Raw]:
        """The same form at other sides.

        Raises:
            UserError: items of this kind have one size.
        """
        raise UserError(f"{self.noun} are of one size: leave the size or the length away")

    def clip(self, raw: Raw) -> tuple[str, bytes] | None:
        """An item as something that plays in a browser, small: its MIME type and its bytes; None where `show` shows all
        that there is."""
        return None

    def coloured(self, x: Tensor, colours: Any) -> Image.Image | None:
        """The item of a state (1, c, *sides) with a colour (*sides, 3) of bytes at each of its places; None where these
        are a picture by themselves."""
        return None

    def write_map(self, values: Tensor, path: Path) -> Path | None:
        """A number in the files' unit for each place of a state, in a file that readers of such items open; None where
        there is no such kind."""
        return None

    @abstractmethod
    def show(self, raws: Sequence[Raw], columns: int | None = None, scale: int | None = None) -> Image.Image:
        """One overview picture of the items, `columns` of them in a row, enlarged by a whole `scale`."""


_REGISTRY: dict[str, type[Modality[Any]]] = {}
Kind = TypeVar("Kind", bound=type[Modality[Any]])


def register(kind: Kind) -> Kind:
    """Class decorator: makes a modality known by its name."""
    _REGISTRY[kind.name] = kind
    return kind


def known_modalities() -> Mapping[str, type[Modality[Any]]]:
    """The modalities that can be read now, by name."""
    return dict(_REGISTRY)


def modality_class(name: str) -> type[Modality[Any]]:
    """The class of that name.  Raises `UserError` naming what can be read where there is none."""
    if name not in _REGISTRY:
        able = ", ".join(sorted(_REGISTRY))
        raise UserError(f"Kuosan cannot read the modality '{name}' in this version; it reads: {able}.")
    return _REGISTRY[name]


def modality_from_spec(spec: Spec, read: Read | None = None) -> Modality[Any]:
    """The modality that `spec()` described, and its `files()` by `read`.  Raises `UserError` for an unknown name."""
    return modality_class(str(spec.get("modality"))).from_spec(spec, read)
