"""Pictures in arrays: .npy, .npz and IDX, alone or in pairs with their labels.

Layouts.  (n, h, w) is grey.  With four axes, channels are an axis of at most 16: the last or the second;
where both would do, the shorter one, and the last where they are equal.  A 3-axis array whose last axis has 1
to 4 entries is one picture (h, w, c), since nobody's pictures are 4 pixels wide.  A 2-axis .npy file is one
grey picture where it has fellows, else a table, which is not a picture.

Names.  In an .npz the pictures are called `images`, `x` or `data`, or are the only array that looks like
pictures; `labels` or `y` is their class; train_/val_/test_ before or after these words are the parts of
MedMNIST and Keras.  Other 1-axis arrays of the same length become columns, and so do those of a table
beside the file (`array_tables`).  Labels in files of their own are
paired by name: train-images-idx3-ubyte.gz with train-labels-idx1-ubyte.gz, x.npy with y.npy.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kuosan.modalities.base import Skip, Unreadable
from kuosan.modalities.folder import CLASS, Entry
from kuosan.modalities.idx import MAX_BYTES, read_idx
from kuosan.modalities.kinds import is_idx
from kuosan.modalities.pixels import Pixels, mode_of, plain
from kuosan.modalities.sides import LEFT, TEST, TRAIN, VAL, settle, side_of_word

MOST_CHANNELS = 16
_LABELS = ("labels", "label", "y")
_PARTS = tuple(sorted(TRAIN | VAL | TEST))
_ROLE_WORD = re.compile(
    r"(?<![a-z0-9])(images?|clips?|videos?|frames?|labels?|x|y|data)(?![a-z0-9])|idx\d+|ubyte|\.gz$|\.npy$",
    re.IGNORECASE,
)
_LABEL_WORD = re.compile(r"(?<![a-z0-9])(labels?|y)(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Block:
    """Pictures of one array: `pixels` (n, h, w, c) in a plain depth, with what is known of each.

    Of clips, `pixels` are (n, t, h, w, c).  `facts` are the single numbers that lie beside them in an .npz, and
    `table` the name of the table that describes them.
    """

    name: str
    pixels: Pixels
    mode: str
    names: list[str]
    side: str = ""
    columns: dict[str, list[str | None]] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    table: str = ""

    def only(self, keep: NDArray[np.bool_]) -> Block:
        """The items where `keep` is true."""
        at = np.flatnonzero(keep).tolist()
        columns = {key: [values[i] for i in at] for key, values in self.columns.items()}
        return replace(self, pixels=self.pixels[keep], names=[self.names[i] for i in at], columns=columns)


class NoPictures(Unreadable):
    """An array file in good order that holds something else: no failure, unless there is nothing else."""


@dataclass(frozen=True)
class Form:
    """What arrays hold: the plural of one item, names that an .npz gives to many, the `layout` of an array as items
    (None where it holds none; `fellows` says that there are others), and columns that its shape and others give."""

    noun: str
    words: tuple[str, ...]
    layout: Callable[[Pixels, bool], Pixels | None]
    columns: Callable[[Pixels, Mapping[str, Pixels]], dict[str, list[str | None]]] = lambda array, others: {}


def item_names(name: str, n: int) -> list[str]:
    """file.npz#0017: padded, so that names sort as numbers do; one item goes by the name of its file."""
    digits = len(str(n - 1))
    return [name] if n == 1 else [f"{name}#{index:0{digits}d}" for index in range(n)]


def read_arrays(entries: list[Entry], form: Form | None = None) -> tuple[list[Block], list[Skip], list[Skip]]:
    """All pictures in arrays, or items of another form; then the files that failed, and what was left out, with
    reasons."""
    form = form or PICTURES
    failed: list[Skip] = []
    left_out: list[Skip] = []
    blocks: list[Block] = []
    loose: list[tuple[Entry, Pixels]] = []
    for entry in entries:
        try:
            if entry.path.suffix.lower() == ".npz":
                found, notes = _read_npz(entry, form)
                blocks += found
                left_out += notes
            elif is_idx(entry.path.name) and entry.path.suffix.lower() != ".npy":
                loose.append((entry, read_idx(entry.path)))
            else:
                loose.append((entry, _read_npy(entry.path)))
        except NoPictures as error:
            left_out.append((entry.name, error.reason))
        except Unreadable as error:
            failed.append((entry.name, error.reason))
    found, wrong, unpaired = _pair(loose, form)
    blocks, smaller = _largest(_settle_files(blocks + found))
    for index, block in enumerate(blocks):
        finite = np.asarray(np.isfinite(block.pixels).all(axis=tuple(range(1, block.pixels.ndim))))
        if not finite.all():
            blocks[index] = block.only(finite)
            count = int((~finite).sum())
            unpaired.append(
                (block.name, f"{count} of its {form.noun} hold NaN or infinity and were left out")
            )
    blocks = [block for block in blocks if len(block.pixels)]
    return sorted(blocks, key=lambda block: block.name), failed + wrong, left_out + unpaired + smaller


def layout(array: Pixels, fellows: bool = False) -> Pixels | None:
    """An array as pictures (n, h, w, c), or None where its axes are not those of pictures."""
    shape = array.shape
    if array.dtype.kind not in "biuf" or 0 in shape:
        return None
    if len(shape) == 2 and fellows:
        return array[None, :, :, None]
    if len(shape) == 3:
        return array[None] if shape[2] <= 4 else array[..., None]
    if len(shape) != 4:
        return None
    last, second = shape[3], shape[1]
    if min(last, second) > MOST_CHANNELS:
        return None
    return array if last <= second else np.moveaxis(array, 1, -1)


PICTURES = Form("pictures", ("images", "image", "x", "data"), layout)


def texts(array: Pixels) -> list[str | None]:
    """Values as a person would type them: 3.0 is "3", true is "true"; NaN and "" are unknown (None)."""
    if array.dtype.kind == "b":
        return ["true" if value else "false" for value in array.tolist()]
    if array.dtype.kind == "f":
        return [None if value != value else f"{value:g}" for value in array.tolist()]
    values = array.tolist()
    if array.dtype.kind == "S":
        values = [value.decode("utf-8", "replace") for value in values]
    return [str(value).strip() or None for value in values]


def class_texts(labels: Pixels, length: int) -> list[str | None] | None:
    """Labels (n), (n, 1) or one-hot (n, k) as class texts; None where they are something else."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and labels.dtype.kind in "biuf":
        hot = np.isin(labels, (0, 1)).all() and (labels.astype(np.float64).sum(1) == 1).all()
        labels = labels.argmax(1) if hot else labels
    if labels.ndim != 1 or len(labels) != length or labels.dtype.kind not in "biufUS":
        return None
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels)):
        return None
    return texts(labels)


def _read_npy(path: Path) -> Pixels:
    arrays = _load(path)
    return arrays if isinstance(arrays, np.ndarray) else next(iter(arrays.values()))


def load_arrays(path: Path) -> dict[str, Pixels]:
    """All arrays of a .npy or .npz file by name, that of a .npy by the file's.  Raises `Unreadable`."""
    loaded = _load(path)
    return {path.stem: loaded} if isinstance(loaded, np.ndarray) else loaded


def _load(path: Path) -> Pixels | dict[str, Pixels]:
    if path.stat().st_size == 0:
        raise Unreadable("the file is empty (0 bytes)", path)
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            if sum(info.file_size for info in loaded.zip.infolist()) > MAX_BYTES:
                raise Unreadable(f"its arrays need more than {MAX_BYTES:,} bytes", path)
            return _readable(loaded, path)
    except ValueError as error:
        if "object" in str(error).lower() or "pickle" in str(error).lower():
            raise Unreadable(
                "no array file, or one of Python objects, which Kuosan never unpickles", path
            ) from None
        raise Unreadable(f"the file is damaged ({error})", path) from None
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError, SyntaxError) as error:
        raise Unreadable(f"the file is damaged ({error})", path) from None


def _readable(loaded: np.lib.npyio.NpzFile, path: Path) -> dict[str, Pixels]:
    """The arrays of an .npz that are not Python objects; a lone object array among others does no harm."""
    arrays = {}
    for name in loaded.files:
        try:
            arrays[name] = loaded[name]
        except ValueError as error:
            if "object" not in str(error).lower():
                raise
    if not arrays:
        raise Unreadable("it holds nothing but Python objects; Kuosan never unpickles", path)
    return arrays


def _read_npz(entry: Entry, form: Form) -> tuple[list[Block], list[Skip]]:
    loaded = _load(entry.path)
    arrays = {entry.path.stem: loaded} if isinstance(loaded, np.ndarray) else loaded
    lower = {name.lower(): name for name in arrays}
    parts = {}
    for part in _PARTS:
        for word in form.words:
            for key in (f"{part}_{word}", f"{word}_{part}"):
                if key in lower and part not in parts and form.layout(arrays[lower[key]], False) is not None:
                    parts[part] = (key, key.replace(word, "{}"))
    if parts:
        sides = settle({part: side_of_word(part) for part in parts})
        blocks = []
        for part, (key, pattern) in parts.items():
            if sides[part] == LEFT:
                continue
            label = next((pattern.format(w) for w in _LABELS if pattern.format(w) in lower), None)
            labels = arrays[lower[label]] if label is not None else None
            block = _block(f"{entry.name}:{part}", arrays[lower[key]], labels, {}, entry, form)
            blocks.append(replace(block, side=sides[part] or entry.side))
        left = [
            (f"{entry.name}:{part}", "kept for a later evaluation") for part in sides if sides[part] == LEFT
        ]
        return blocks, left
    looks = {name: array for name, array in arrays.items() if form.layout(array, False) is not None}
    chosen = next((lower[word] for word in form.words if word in lower and lower[word] in looks), None)
    if chosen is None and len(looks) == 1:
        chosen = next(iter(looks))
    if chosen is None:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:6])
        which = (
            f"several arrays like {form.noun}, none called {form.words[0]}"
            if looks
            else f"no array of {form.noun}"
        )
        raise NoPictures(f"it holds {which} ({shapes})", entry.path)
    label = next((lower[word] for word in _LABELS if word in lower), None)
    others = {name: a for name, a in arrays.items() if name not in (chosen, label)}
    labels = arrays[label] if label is not None else None
    block = _block(entry.name, arrays[chosen], labels, others, entry, form)
    notes = []
    if label is not None and CLASS not in block.columns:
        notes.append(
            (f"{entry.name}: {label}", f"labels of shape {arrays[label].shape} are no classes of the items")
        )
    return [block], notes


def _block(
    name: str, array: Pixels, labels: Pixels | None, others: dict[str, Pixels], entry: Entry, form: Form
) -> Block:
    pictures = form.layout(array, True)
    if pictures is None:
        raise NoPictures(f"an array of shape {array.shape} holds no {form.noun}", entry.path)
    pixels, binary = plain(pictures, whole=True)
    n = len(pixels)
    columns: dict[str, list[str | None]] = {key: [value] * n for key, value in entry.columns.items()}
    tables = [table for table in entry.tables if table.describes(entry.name, n)]
    for table in tables:
        columns |= table.columns
    columns |= form.columns(array, others)
    for key, other in others.items():
        if other.ndim == 1 and len(other) == n and other.dtype.kind in "biufUS":
            columns[key] = texts(other)
    classes = class_texts(labels, n) if labels is not None else None
    if classes is not None:
        columns[CLASS] = classes
    mode = "1" if binary and pixels.shape[-1] == 1 else mode_of(pixels.shape[-1])
    if binary and mode != "1":
        pixels = np.multiply(pixels.astype(np.uint8), np.uint8(255))
    facts = {key: float(a) for key, a in others.items() if a.ndim == 0 and a.dtype.kind in "biuf"}
    told = tables[0].name if tables else ""
    return Block(name, pixels, mode, item_names(name, n), entry.side, columns, facts, told)


def _pair(loose: list[tuple[Entry, Pixels]], form: Form) -> tuple[list[Block], list[Skip], list[Skip]]:
    """Blocks of the arrays that lie in files of their own, with the labels that go by the same name."""
    labels = {}
    pictures = []
    for entry, array in loose:
        if array.ndim == 1 or (array.ndim == 2 and _LABEL_WORD.search(posixpath.basename(entry.name))):
            labels[_key(entry)] = (entry, array)
        else:
            pictures.append((entry, array))
    fellows = sum(array.ndim == 2 for _, array in pictures) > 1
    blocks: list[Block] = []
    failed: list[Skip] = []
    unpaired: list[Skip] = []
    for entry, array in pictures:
        found = labels.pop(_key(entry), None)
        try:
            if form.layout(array, fellows) is None:
                raise NoPictures(f"an array of shape {array.shape} holds no {form.noun}")
            block = _block(entry.name, array, found[1] if found else None, {}, entry, form)
        except NoPictures as error:
            unpaired.append((entry.name, error.reason))
            continue
        blocks.append(block)
        if found and class_texts(found[1], len(block.pixels)) is None:
            shape = found[1].shape
            failed.append(
                (found[0].name, f"labels of shape {shape} do not fit {len(block.pixels)} {form.noun}")
            )
    unpaired += [(entry.name, f"labels without {form.noun} of the same name") for entry, _ in labels.values()]
    return blocks, failed, unpaired


def _largest(blocks: list[Block]) -> tuple[list[Block], list[Skip]]:
    """Of arrays that one table describes, which hold the same items, the largest."""
    best: dict[str, Block] = {}
    for block in blocks:
        if block.table and (block.table not in best or block.pixels.size > best[block.table].pixels.size):
            best[block.table] = block
    kept = [block for block in blocks if not block.table or block is best[block.table]]
    return kept, [
        (b.name, f"the items of {best[b.table].name} again, by {b.table}, and smaller")
        for b in blocks
        if b not in kept
    ]


def _key(entry: Entry) -> str:
    folder, base = posixpath.split(entry.name.lower())
    return folder + "/" + re.sub(r"[^a-z0-9]+", "", _ROLE_WORD.sub("", base))


def _settle_files(blocks: list[Block]) -> list[Block]:
    """train-images… beside t10k-images…: the first words of the files' names decide, within each folder."""
    said = {b.name: side_of_word(posixpath.basename(b.name)) for b in blocks if not b.side}
    sides = {}
    for folder in {posixpath.dirname(name) for name in said}:
        sides.update(settle({n: w for n, w in said.items() if posixpath.dirname(n) == folder}))
    blocks = [replace(block, side=sides.get(block.name, block.side)) for block in blocks]
    return [block for block in blocks if block.side != LEFT]
