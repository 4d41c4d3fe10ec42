"""What the names of joints mean: sides and parts of a body, whoever named them.

"mixamorig:LeftUpLeg", "l_thigh", "lfemur" and "left_hip" are all a left thigh. A part is told by a word; some words
mean one thing beside another ("shoulder" is the collar bone where the arm has a joint of its own, else the arm).
"""

from __future__ import annotations

import re

from kuosan.modalities.motion_skeleton import Skeleton

_WORDS: dict[str, tuple[str, ...]] = {
    "hips": ("hips", "pelvis", "root", "hip"),
    "torso": (
        "spine", "chest", "torso", "abdomen", "lowerback", "upperback", "thorax", "back", "waist", "upperchest",
    ),
    "neck": ("neck", "lowerneck", "upperneck"),
    "head": ("head",),
    "collar": ("shoulder", "clavicle", "collar", "scapula"),
    "arm": ("uparm", "upperarm", "humerus", "arm"),
    "forearm": ("forearm", "lowerarm", "lowarm", "radius", "elbow"),
    "hand": ("hand", "wrist", "palm"),
    "thigh": ("upleg", "upperleg", "thigh", "femur"),
    "shin": ("lowleg", "lowerleg", "shin", "calf", "tibia", "knee", "leg"),
    "foot": ("foot", "ankle", "feet"),
    "toe": ("toe", "toes", "toebase", "ball", "paw", "hoof"),
}  # fmt: skip
_PART = {word: part for part, words in _WORDS.items() for word in words}
_SIDES = {"l": "left", "left": "left", "lft": "left", "r": "right", "right": "right", "rgt": "right"}
_SPLIT = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
FEET = ("foot", "toe")

Part = tuple[str, str]  # side ("", "left", "right") and part ("" where the name tells none)


def part_of(name: str) -> Part:
    """The side and the part that a name tells.

    >>> part_of("mixamorig:LeftUpLeg"), part_of("lfemur"), part_of("Bip01 R Calf"), part_of("prop")
    (('left', 'thigh'), ('left', 'thigh'), ('right', 'shin'), ('', ''))
    """
    bare = re.sub(r"^(character\d*|bip\d*|mixamorig\d*|b)[ _:.]", "", name.rpartition(":")[2], flags=re.I)
    words = [w.lower() for w in _SPLIT.findall(bare) if not w.isdigit()]
    side = next((_SIDES[w] for w in words if w in _SIDES), "")
    rest = [w for w in words if w not in _SIDES]
    joined = "".join(rest)
    for word in (joined, *reversed(rest)):
        if word in _PART:
            return side, _PART[word]
    if not side and joined[:1] in ("l", "r") and joined[1:] in _PART:
        return _SIDES[joined[0]], _PART[joined[1:]]
    return side, ""


def parts_of(skeleton: Skeleton) -> tuple[Part, ...]:
    """The part of each joint; the topmost joint of a name that several have is that part, but for the torso's and the
    neck's, which are chains."""
    told = [part_of(name) for name in skeleton.names]
    told[0] = ("", "hips")
    for side in ("left", "right"):
        if (side, "arm") not in told:
            told = [(side, "arm") if part == (side, "collar") else part for part in told]
        if (side, "thigh") not in told:
            told = [(side, "thigh") if part == (side, "hips") else part for part in told]
    found: list[Part] = []
    for j, part in enumerate(told):
        above = [found[k] for k in skeleton.chain(j)[1:]]
        chain = part[1] in ("torso", "neck")
        found.append(part if chain or (part not in found and part not in above) else (part[0], ""))
    return tuple(found)
