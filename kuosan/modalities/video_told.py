"""Which files of a folder are clips, where their names do not tell: animations, folders of frames, sheets, arrays.

animations      a GIF, WebP or PNG with several frames is a clip where most of the folder's pictures are
                animations, or where video is asked for; a few among photographs stay pictures (their first frame)
frames          a folder whose pictures are called by one word and a number each (000.png …) is one clip where
                video is asked for and nothing else in the data is one. Else only where all folders of pictures,
                two at least, are like that and count on without a gap, *and* neighbours look alike: the median
                difference of one picture to the next is below a quarter of that between pictures of different
                folders. Numbered class folders (0/0001.png …) are far from that, and pictures beside their maps
                are none
sheets          a picture that a metadata table gives `columns` is a grid of frames (`video_sheet`)
arrays          called clips, videos or frames, with four axes or more, or five and more axes of bytes ending in
                1, 3 or 4 channels; where video is asked for, all of them (`array_headers`)
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from kuosan.modalities.array_headers import holds_clips
from kuosan.modalities.base import Unreadable
from kuosan.modalities.kinds import ARRAY, MAPS, TABLES
from kuosan.modalities.tables import read_table
from kuosan.modalities.video_file import ANIMATED, is_animated, number_of, numbered
from kuosan.modalities.video_sheet import COLUMNS
from kuosan.modalities.walk import Found, Listing

VIDEO = "video"
_ALIKE = 0.25
_FOLDERS, _PAIRS, _SIDE = 6, 3, 16  # that are looked at, and pixels of a thumbnail


def moving(listing: Listing, modality: str) -> Listing:
    """The files with those called video that are clips; the frames of one clip become one entry, their folder's."""
    if modality not in ("auto", VIDEO):
        return listing
    asked = modality == VIDEO
    found = [_array(one) for one in listing.found]
    found = _animations(_sheets(found), asked)
    alone = asked and not any(one.kind == VIDEO for one in found)
    return replace(listing, found=tuple(_frames(listing.root, found, alone)))


def _array(found: Found) -> Found:
    arrays = found.kind == ARRAY and found.name.lower().endswith((".npy", ".npz"))
    return replace(found, kind=VIDEO) if arrays and holds_clips(found.path) else found


def _sheets(found: list[Found]) -> list[Found]:
    tables = [one for one in found if posixpath.basename(one.name).lower() in TABLES]
    sheets = set()
    for table in tables:
        try:
            rows = read_table(table.path, table.name)
        except Unreadable:
            continue
        sheets |= {name for name, row in rows.items() if row.get(COLUMNS)}
    return [replace(o, kind=VIDEO) if o.kind == "image" and o.name in sheets else o for o in found]


def _animations(found: list[Found], asked: bool) -> list[Found]:
    pictures = [one for one in found if one.kind == "image"]
    moves = {one.name for one in pictures if one.name.lower().endswith(ANIMATED) and is_animated(one.path)}
    if not asked and 2 * len(moves) <= len(pictures):
        return found
    return [replace(one, kind=VIDEO) if one.name in moves else one for one in found]


def _frames(root: Path, found: list[Found], sure: bool) -> list[Found]:
    folders: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        if one.kind == "image":
            folders[posixpath.dirname(one.name)].append(one)
    clips = {}
    for name, files in folders.items():
        path = files[0].path.parent
        if (name or sure) and len(files) > 1 and len(ordered := numbered(path)) == len(files):
            clips[name] = ordered
    if not sure and any(posixpath.basename(name).lower() in MAPS for name in folders):
        return found  # pictures and their maps
    if not clips or (not sure and not (len(clips) == len(folders) and _evident(list(clips.values())))):
        return found
    used = {one.name for name in clips for one in folders[name]}
    whole = [Found(name or root.name, files[0].parent, VIDEO) for name, files in clips.items()]
    return sorted([*(one for one in found if one.name not in used), *whole], key=lambda one: one.name)


def _evident(clips: Sequence[list[Path]]) -> bool:
    """Whether these folders of numbered pictures can be nothing but frames."""
    if len(clips) < 2 or any(len(files) < 3 for files in clips):
        return False
    for files in clips:
        if number_of(files[-1]) - number_of(files[0]) != len(files) - 1:
            return False
    step = max(1, len(clips) // _FOLDERS)
    near, far, first = [], [], []
    try:
        for files in clips[::step]:
            places = np.linspace(0, len(files) - 2, _PAIRS).round().astype(int).tolist()
            pairs = [(_thumbnail(files[i]), _thumbnail(files[i + 1])) for i in places]
            near += [float(np.abs(a - b).mean()) for a, b in pairs]
            first.append(pairs[0][0])
    except (OSError, ValueError, SyntaxError):
        return False
    far = [float(np.abs(a - b).mean()) for i, a in enumerate(first) for b in first[:i]]
    return float(np.median(near)) < _ALIKE * float(np.median(far))


def _thumbnail(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((_SIDE, _SIDE)), dtype=np.float64)
