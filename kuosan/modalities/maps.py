"""Maps beside pictures: what is where in each, from a folder of masks or of boxes with the same names.

    images/001.jpg   masks/001.png         a label for each pixel: numbers, colours of a palette, or colours
    JPEGImages/a.jpg Annotations/a.xml     boxes with names (Pascal VOC), small ones over large ones

The folder of maps is named, or found by its usual names where nearly all pictures have a map in it. Labels are read by
name: the number or the colour as text ("2", "#ff0000"), the name of a box, or what classes.json calls it.
"""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kuosan.errors import UserError
from kuosan.modalities.base import Unreadable
from kuosan.modalities.beside import UNKNOWN
from kuosan.modalities.folder import CLASS, Folder
from kuosan.modalities.kinds import MAPS
from kuosan.modalities.picture_file import named_errors

Labels = NDArray[np.int32]  # (h, w)

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".xml")
BACKGROUND, VOID = "background", 255
MOST, NEARLY = 64, 0.9
_COLOUR = 1 << 24


@dataclass(frozen=True)
class Maps:
    """The pictures of a folder alone, and the file of each one's map, by the picture; ``name`` is the folder's."""

    folder: Folder
    paths: dict[str, Path] = field(default_factory=dict)
    name: str = ""


def find_maps(folder: Folder, wish: str, needed: bool = True) -> Maps:
    """The maps of a folder of pictures: in the folder called ``wish``, in one of the usual names for "auto", or none.

    Raises:
        UserError: no picture has a map in the folder that was named.
    """
    if wish == "none":
        return Maps(folder)
    names = [wish] if wish != "auto" else sorted({n for n in _folders(folder) if n.lower() in MAPS})
    for name in names:
        pictures = [e for e in folder.entries if name not in posixpath.dirname(e.name).split("/")]
        files: dict[Path, dict[str, Path]] = {}
        paths = {e.name: path for e in pictures if (path := _beside(folder.root, e.name, name, files))}
        if len(paths) < (1 if wish != "auto" else max(1, NEARLY * len(pictures))):
            continue
        if len({e.columns.get(CLASS) for e in pictures}) < 2:
            pictures = [
                replace(e, columns={k: v for k, v in e.columns.items() if k != CLASS}) for e in pictures
            ]
        return Maps(replace(folder, entries=tuple(pictures)), paths, name)
    if wish != "auto" and needed:
        raise UserError(
            f"no picture in {folder.source} has a map in a folder called {wish}: name the folder that holds one for "
            "each, with the picture's name, or leave data.map away"
        )
    return Maps(folder)


def _folders(folder: Folder) -> set[str]:
    """Names of folders in it, also of those that hold no pictures."""
    inside = {part for e in folder.entries for part in posixpath.dirname(e.name).split("/") if part}
    above = {posixpath.dirname(posixpath.dirname(e.name)) for e in folder.entries} | {""}
    for name in above:
        place = folder.root / name
        inside |= {p.name for p in place.iterdir() if p.is_dir()} if place.is_dir() else set()
    return inside


def _beside(root: Path, name: str, maps: str, files: dict[Path, dict[str, Path]]) -> Path | None:
    """The map of a picture: where one folder on its way, or none, is exchanged for that of the maps."""
    *folders, last = name.split("/")
    ways = [[*folders[:i], maps, *folders[i + 1 :]] for i in reversed(range(len(folders)))] + [
        [maps, *folders]
    ]
    for way in ways:
        place = root.joinpath(*way)
        if place not in files:
            inside = sorted(place.iterdir()) if place.is_dir() else []
            files[place] = {p.stem: p for p in inside if p.suffix.lower() in SUFFIXES}
        if found := files[place].get(posixpath.splitext(last)[0]):
            return found
    return None


@dataclass
class Book:
    """Names of labels and their numbers, in the order in which they were met."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, name: str) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    def read(self, path: Path) -> Labels:
        """A map in these numbers.  Raises `Unreadable`."""
        if path.suffix.lower() == ".xml":
            return self._boxes(path)
        with named_errors(path), Image.open(path) as image:
            values = np.asarray(image if image.mode in ("P", "L", "1", "I", "I;16") else image.convert("RGB"))
        values = values.astype(np.int64)
        if values.ndim == 3:
            values = _COLOUR + (values << np.array([16, 8, 0])).sum(-1)
        found, inverse = np.unique(values, return_inverse=True)
        if len(found) > MOST:
            raise Unreadable(f"its map {path.name} holds {len(found)} values, which are no labels")
        table = np.array([self.number(_name(int(v))) for v in found], np.int32)
        return table[inverse.reshape(values.shape)]

    def _boxes(self, path: Path) -> Labels:
        with named_errors(path):
            tree = ElementTree.parse(path).getroot()
            width, height = (int(float(tree.findtext(f"size/{side}", "0"))) for side in ("width", "height"))
            boxes = []
            for item in tree.iter("object"):
                corners = [
                    float(item.findtext(f"bndbox/{k}", "nan")) for k in ("xmin", "ymin", "xmax", "ymax")
                ]
                boxes.append((str(item.findtext("name", "")).strip(), corners))
            if min(width, height) < 1 or not np.isfinite([c for _, c in boxes]).all():
                raise Unreadable("it holds no size, or boxes without corners")
        out = np.full((height, width), self.number(BACKGROUND), np.int32)
        for name, (left, top, right, bottom) in sorted(boxes, key=lambda b: -_area(b[1])):
            paint(out, (left, top, right, bottom), self.number(name))
        return out

    def classes(self, names: dict[str, str]) -> tuple[str, ...]:
        """In their order: the background, numbers, then the rest by name; without what means that nobody knows.

        Raises:
            UserError: there are too many.
        """
        void = str(VOID) in self.numbers and set(self.numbers) - {"0", str(VOID)}
        known = [n for n in self.numbers if not (void and n == str(VOID))]
        known.sort(key=lambda n: (n != BACKGROUND, not n.isdecimal(), int(n) if n.isdecimal() else 0, n))
        if len(known) > MOST:
            raise UserError(f"the maps hold {len(known)} labels: give maps of {MOST} at most")
        return tuple(names.get(n, n) for n in known)

    def table(self, classes: Sequence[str], names: dict[str, str]) -> NDArray[np.uint8]:
        """The number of a class for every number here; `UNKNOWN` of names that are none."""
        place = {name: i for i, name in enumerate(classes)}
        out = [
            place.get(names.get(name, name), place.get(name, _by_number(name, classes)))
            for name in self.numbers
        ]
        return np.array(out or [UNKNOWN], np.uint8)


def _by_number(name: str, classes: Sequence[str]) -> int:
    """Where classes have names, a mask may still number them."""
    named = not any(c.isdecimal() for c in classes)
    return int(name) if named and name.isdecimal() and int(name) < len(classes) else UNKNOWN


def _name(value: int) -> str:
    return f"#{value - _COLOUR:06x}" if value >= _COLOUR else str(value)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def paint(labels: NDArray[np.generic], box: tuple[float, float, float, float], number: int) -> None:
    """A label into a box (left, top, right, bottom) in pixels, in place."""
    left, top, right, bottom = (max(0, round(corner)) for corner in box)
    labels[top : max(top + 1, bottom), left : max(left + 1, right)] = number


def boxes_map(text: str, classes: Sequence[str], height: int, width: int) -> NDArray[np.uint8]:
    """The map that "rbc:10,10,30,30;wbc:0,0,5,5" means: names with left, top, right and bottom in pixels, later ones
    over earlier ones, over the first class.

    Raises:
        UserError: no such class, or corners that cannot be read or lie outside.
    """
    out = np.zeros((height, width), np.uint8)
    folded = {name.casefold(): i for i, name in enumerate(classes)}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        name, _, corners = part.rpartition(":")
        try:
            left, top, right, bottom = (float(c) for c in corners.split(","))
        except ValueError:
            raise UserError(
                f"'{part}' is no box: write a name and four numbers, as in {classes[-1]}:10,10,30,30"
            ) from None
        if name.strip().casefold() not in folded:
            near = difflib.get_close_matches(name, classes, 3, 0.4) or classes
            raise UserError(f"'{name}' is nothing that this model knows: it can be {', '.join(near)}")
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise UserError(
                f"the box {corners} of {name} does not lie in {width}×{height} pixels: give left, top, right and "
                "bottom, from 0"
            )
        paint(out, (left, top, right, bottom), folded[name.strip().casefold()])
    return out
