"""The meaning of a folder: which files are data, and what their places and side-cars say about them.

From a flat list of files this works out, in order: side-car captions and tables; the one modality; the files
that are held out (folders train/ and val/); the class of each file (its folder).  Nothing is decoded here.

The class of a file is the name of the folder it lies in.  A single such folder tells nothing apart and is no
class (paintings/jpg/*.jpg), and folders in between count for nothing (png/0/x.png is of class "0").
"""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from kuosan.errors import UserError
from kuosan.modalities.array_tables import ItemTable, find_tables
from kuosan.modalities.audio_container import holds_sounds
from kuosan.modalities.base import Skip, Unreadable, known_modalities
from kuosan.modalities.kinds import ALONE, ARRAY, CLASS_NAMES, MODALITIES, SUFFIXES, TABLES
from kuosan.modalities.medical_magic import is_dicom
from kuosan.modalities.motion_json import is_motion_json
from kuosan.modalities.music_grid import is_grid
from kuosan.modalities.music_xml import is_musicxml
from kuosan.modalities.plan_told import holds_plans
from kuosan.modalities.shape_told import holds_shapes
from kuosan.modalities.sides import HELD_OUT, LEFT, TRAIN, find_sides
from kuosan.modalities.tables import Row, read_caption, read_class_names, read_table, take_caption
from kuosan.modalities.video_told import moving
from kuosan.modalities.walk import Found, Listing, walk

CLASS = "class"
CONTENT, HEAD = (".json", ".xml"), 4096  # suffixes that say little, and bytes that say more


@dataclass(frozen=True)
class Entry:
    """One file of data; `side` is "train", "val" or "" (not said), `columns` what is known about it, and of an array
    `tables` what may be known of its items."""

    name: str
    path: Path
    is_array: bool
    side: str
    columns: Row
    caption: str
    tables: tuple[ItemTable, ...] = ()


@dataclass(frozen=True)
class Folder:
    """Data files of one modality, sorted by name, with what the folder says about them; ``source`` is what was asked
    for, ``root`` the folder that names are relative to: the same, or where the one file lies."""

    source: Path
    root: Path
    modality: str
    entries: tuple[Entry, ...]
    failed: tuple[Skip, ...]
    left_out: tuple[Skip, ...]
    class_names: dict[str, str] = field(default_factory=dict)


def open_folder(data: Path | str, modality: str = "auto") -> Folder:
    """Reads the meaning of a file or a folder.

    Raises `UserError` where it is missing, empty, of several modalities (naming them with their counts), or
    of one that this version cannot read.
    """
    if modality != "auto" and modality not in MODALITIES:
        raise UserError(f"'{modality}' is not a modality; --modality takes one of: {', '.join(MODALITIES)}.")
    listing = moving(_told(walk(data), modality), modality)
    captions, caption_files = _caption_files(listing)
    tables = [f for f in listing.found if posixpath.basename(f.name).lower() in TABLES]
    of_items, item_files, damaged = find_tables(listing.found, Path(data) if Path(data).is_file() else None)
    caption_files |= item_files if modality != "text" else set()
    others = [f for f in listing.found if f not in tables and f.name not in caption_files]
    if modality == "text" or not any(f.kind not in (None, "text") for f in others):
        others, tables = _texts(listing, tables)
        captions = {}
    chosen = _choose(others, modality, Path(data))

    kinds = (chosen,) if chosen == "text" else (chosen, ARRAY)
    data_files = [f for f in others if f.kind in kinds]
    sides = find_sides([f.name for f in data_files])
    left_out = [*listing.aside, *_strangers(others, data_files), *damaged]
    failed = list(listing.failed)
    class_names: dict[str, str] = {}
    for found in listing.found:
        if posixpath.basename(found.name).lower() == CLASS_NAMES and not class_names:
            try:
                class_names = read_class_names(found.path)
            except Unreadable as error:
                left_out.append((found.name, error.reason))
    rows: dict[str, Row] = {}
    for table in tables:
        if table.name in item_files:
            continue
        try:
            rows.update(read_table(table.path, table.name))
        except Unreadable as error:
            left_out.append((table.name, error.reason))
    classes = _classes(data_files, sides)
    entries = []
    for found in data_files:
        side = sides[found.name]
        if side == LEFT:
            continue
        row = dict(rows.pop(found.name, {}))
        caption = take_caption(row)
        if not caption and found.name in captions:
            try:
                caption = read_caption(captions[found.name])
            except Unreadable as error:
                left_out.append((found.name, error.reason))
        columns = ({CLASS: classes[found.name]} if found.name in classes else {}) | row
        array = found.kind == ARRAY
        told = tuple(of_items) if array else ()
        entries.append(Entry(found.name, found.path, array, side, columns, caption, told))
    kept_aside = sum(side == LEFT for side in sides.values())
    if kept_aside:
        left_out.append((f"{kept_aside} files of test/", "kept for a later evaluation, since val/ is there"))
    left_out += [(name, "named in a metadata table, but no such file is read") for name in sorted(rows)]
    return Folder(
        Path(data), listing.root, chosen, tuple(entries), tuple(failed), tuple(left_out), class_names
    )


def _told(listing: Listing, modality: str) -> Listing:
    """The files whose content tells what their names do not: music in JSON and in .xml, motion in JSON, sounds in .npz,
    shapes in arrays, plans in rows and in JSON; asked for, any JSON where there is no other music, and pictures as
    plans."""
    scores = any(found.kind == "music" for found in listing.found)

    def kind(found: Found) -> str | None:
        suffix = posixpath.splitext(found.name)[1].lower()
        if found.kind is None and not suffix.strip(".0123456789") and is_dicom(found.path):
            return "medical"  # scanners name their files by numbers
        if found.kind == ARRAY and suffix == ".npz" and holds_sounds(found.path):
            return "audio"
        if modality in ("auto", "plan") and holds_plans(found.path, found.kind, asked=modality == "plan"):
            return "plan"
        if found.kind == ARRAY and modality in ("auto", "shape") and suffix in SUFFIXES[ARRAY]:
            return "shape" if holds_shapes(found.path) else ARRAY
        if found.kind is not None or suffix not in CONTENT:
            return found.kind
        if (
            modality == "music"
            and not scores
            and suffix == ".json"
            and posixpath.basename(found.name).lower() != CLASS_NAMES
        ):
            return modality
        try:
            with found.path.open("rb") as file:
                head = file.read(HEAD)
        except OSError:
            return None
        if suffix == ".json" and is_motion_json(head):
            return "motion"
        return "music" if (is_musicxml(head) if suffix == ".xml" else is_grid(head)) else None

    return replace(listing, found=tuple(replace(found, kind=kind(found)) for found in listing.found))


def _texts(listing: Listing, tables: list[Found]) -> tuple[list[Found], list[Found]]:
    """Where texts are the data: all that can hold one, and those tables that are about texts beside them.

    A metadata table that describes no file of the folder is data like any other table.
    """
    names = {found.name for found in listing.found}
    about = []
    for table in tables:
        try:
            if names & set(read_table(table.path, table.name)):
                about.append(table)
        except Unreadable:
            continue
    files = []
    for found in listing.found:
        kind = ALONE.get(posixpath.splitext(found.name)[1].lower(), found.kind)
        named = posixpath.basename(found.name).lower() == CLASS_NAMES
        if found not in about:
            files.append(found if named else replace(found, kind=kind))
    return files, about


def _choose(files: list[Found], modality: str, data: Path) -> str:
    counts = Counter(found.kind for found in files if found.kind is not None)
    arrays = counts.pop(ARRAY, 0)
    if modality != "auto":
        if not counts[modality] and not arrays:
            raise UserError(f"{data} holds no {modality} files; {_found(counts, files)}.")
        return modality
    if arrays and counts["text"] and len(counts) == 1:
        counts["image"] = arrays  # arrays can hold anything, but no texts
    if len(counts) > 1:
        names = " or ".join(name for name, _ in counts.most_common())
        raise UserError(
            f"{data} holds several modalities ({_found(counts, files)}); choose one with --modality {names}."
        )
    if counts:
        return next(iter(counts))
    if arrays:
        return "image"
    able = "; ".join(f"{n}: {', '.join(c.suffixes)}" for n, c in known_modalities().items())
    what = f"no file of a known kind among its {len(files)} files" if files else "no files"
    raise UserError(f"{data} holds {what}; Kuosan reads {able}, and arrays in .npy, .npz and IDX.")


def _found(counts: Counter[str], files: list[Found]) -> str:
    known = [f"{count} {name}" for name, count in counts.most_common() if count]
    return "found: " + ", ".join(known) if known else f"found {len(files)} files of no known kind"


def _caption_files(listing: Listing) -> tuple[dict[str, Path], set[str]]:
    """Side-car captions (x.txt beside x.png): where each file's caption lies, and all captions' names."""
    texts = {f.name[:-4]: f for f in listing.found if f.name.lower().endswith(".txt") and f.kind == "text"}
    captions, names = {}, set()
    for found in listing.found:
        text = texts.get(posixpath.splitext(found.name)[0])
        if text is not None and found.kind not in (None, "text", ARRAY):
            captions[found.name] = text.path
            names.add(text.name)
    return captions, names


def _classes(files: list[Found], sides: dict[str, str]) -> dict[str, str]:
    folders = {}
    for found in files:
        parts = posixpath.dirname(found.name).split("/")
        if sides[found.name]:
            # the folder train/ or val/ itself is no class: class folders lie inside it
            cut = next((i for i, part in enumerate(parts) if part.lower() in TRAIN | HELD_OUT), -1)
            parts = parts[cut + 1 :]
        if parts and parts[-1]:
            folders[found.name] = parts[-1]
    return folders if len(set(folders.values())) > 1 else {}


def _strangers(files: list[Found], data_files: list[Found]) -> list[Skip]:
    """What else lies in the folder, by suffix: it is left alone, and that is said."""
    used = {found.name for found in data_files}
    counts: Counter[str] = Counter()
    for found in files:
        if found.name not in used and posixpath.basename(found.name).lower() != CLASS_NAMES:
            counts[posixpath.splitext(found.name)[1].lower() or "no suffix"] += 1
    return [(f"{n} files ({suffix})", "of another kind, left alone") for suffix, n in sorted(counts.items())]
