"""Which kind of data a file holds, told by its name; and which files are nobody's data.

The table lists every suffix of Kuosan's contract, whether or not its reader is there yet, so that a folder of
recordings is called audio and not "empty".  Array containers (.npy, .npz, IDX) can hold anything: they go
with the modality of the files beside them, and alone they are taken for pictures.
"""

from __future__ import annotations

import re

ARRAY = "array"

SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".gif", ".bmp"),
    "text": (".txt", ".md", ".jsonl", ".csv", ".tsv", ".parquet"),
    "music": (".mid", ".midi", ".abc", ".musicxml", ".mxl"),
    "audio": (".wav", ".flac", ".ogg", ".mp3"),
    "video": (
        ".mp4",
        ".mkv",
        ".webm",
        ".mov",
        ".avi",
        ".m4v",
        ".mpg",
        ".mpeg",
        ".ogv",
        ".wmv",
        ".flv",
        ".3gp",
        ".apng",
    ),
    "motion": (".bvh", ".amc", ".asf"),
    "shape": (".obj", ".stl", ".ply", ".glb", ".gltf", ".off", ".vox"),
    "plan": (".svg", ".dxf", ".geojson"),
    "medical": (".dcm", ".dicom", ".ima", ".nii", ".nii.gz"),
    ARRAY: (".npy", ".npz"),
}
MODALITIES = tuple(name for name in SUFFIXES if name != ARRAY)
# JSON describes data of every kind (annotations, settings): it is text where nothing else is there
ALONE = {".json": "text"}
TABLES = ("metadata.jsonl", "metadata.csv", "metadata.tsv")
CLASS_NAMES = "classes.json"
MAPS = ("masks", "mask", "maps", "map", "segmentation", "segmentationclass", "annotations")
"""Usual names of folders that hold what is where in the pictures of another."""

_KIND_OF_SUFFIX = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}
# train-images-idx3-ubyte.gz, t10k-labels.idx1-ubyte, digits-images-idx3-ubyte
_IDX = re.compile(r"(idx\d+|-ubyte|\.ubyte)", re.IGNORECASE)
_PAPERWORK = re.compile(
    r"^(readme|licen[cs]e).*$"
    r"|^(copying|notice|attribution|authors|sources|citation|changelog)([._ -].*)?$"
    r"|^(md5|sha\d*|b2|cksum)sums?(\.txt)?$|^thumbs\.db$|^desktop\.ini$",
    re.IGNORECASE,
)


def is_ignored(name: str, folder: bool = False) -> bool:
    """True for hidden files and folders, and for the paperwork that comes with data (README*, LICENSE* …).

    A folder or a picture may well be called "sources" or "license": only text counts as paperwork.
    """
    if name.startswith(".") or folder:
        return name.startswith(".") or name.lower() == "__macosx"
    return kind_of(name) in (None, "text") and _PAPERWORK.match(name) is not None


def kind_of(name: str) -> str | None:
    """The modality of a file's name, `ARRAY` for a container of arrays, None where it is neither.

    >>> kind_of("scan.NII.GZ"), kind_of("train-images-idx3-ubyte.gz"), kind_of("notes.xml")
    ('medical', 'array', None)
    """
    lower = name.lower()
    stem, dot, last = lower.rpartition(".")
    if last == "gz" and "." in stem:
        double = _KIND_OF_SUFFIX.get("." + stem.rpartition(".")[2] + ".gz")
        if double is not None:
            return double
    if dot and "." + last in _KIND_OF_SUFFIX:
        return _KIND_OF_SUFFIX["." + last]
    if is_idx(lower):
        return ARRAY
    return None


def is_idx(name: str) -> bool:
    """True where a name looks like MNIST's container (Y. LeCun, "The MNIST database": file formats)."""
    return _IDX.search(name) is not None
