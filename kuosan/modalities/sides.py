"""Which files the folder itself holds out: train/ beside val/, validation/, valid/ or test/.

The folders count at the first level where names differ (DATA/pictures/train/… is fine).  Where both a
validation and a test folder are there, the test files are left for a later evaluation.  The same words decide
for arrays: train-images-idx3-ubyte beside t10k-images-idx3-ubyte, and train_images beside val_images.
"""

from __future__ import annotations

import re

TRAIN = frozenset({"train", "training"})
VAL = frozenset({"val", "valid", "validation"})
TEST = frozenset({"test", "testing"})
HELD_OUT = VAL | TEST
LEFT = "left"

_TRAIN_WORD = re.compile(r"^(train|training)(?=$|[^a-z0-9])", re.IGNORECASE)
_VAL_WORD = re.compile(r"^(val|valid|validation)(?=$|[^a-z0-9])", re.IGNORECASE)
_TEST_WORD = re.compile(r"^(test|testing|t\d+k)(?=$|[^a-z0-9])", re.IGNORECASE)


def side_of_word(name: str) -> str:
    """ "train", "val", "test" or "" for the first word of a name (t10k and t2k are MNIST's word for test)."""
    if _TRAIN_WORD.match(name):
        return "train"
    if _VAL_WORD.match(name):
        return "val"
    return "test" if _TEST_WORD.match(name) else ""


def settle(said: dict[str, str]) -> dict[str, str]:
    """From what the names say ("train", "val", "test", "") to sides ("train", "val", LEFT, "").

    Without a training part nothing is held out by name: a lone folder "test" is just a folder.
    """
    words = set(said.values())
    if "train" not in words or not words & {"val", "test"}:
        return dict.fromkeys(said, "")
    if "val" in words:
        as_side = {"train": "train", "val": "val", "test": LEFT, "": "train"}
    else:
        as_side = {"train": "train", "test": "val", "": "train"}
    return {name: as_side[word] for name, word in said.items()}


def find_sides(names: list[str]) -> dict[str, str]:
    """The side of each file, by the folders on its path."""
    paths = {name: name.split("/") for name in names}
    level = 0
    while names and all(len(parts) > level + 1 for parts in paths.values()):
        if len({parts[level] for parts in paths.values()}) > 1:
            break
        level += 1
    said = {}
    for name, parts in paths.items():
        folder = parts[level].lower() if len(parts) > level + 1 else ""
        if folder in TRAIN:
            said[name] = "train"
        elif folder in HELD_OUT:
            said[name] = "val" if folder in VAL else "test"
        else:
            said[name] = ""
    return settle(said)
