"""What files call the parts of a plan: walls, doors, windows and the uses of rooms, in the words of people.

Names of layers, classes and properties are taken apart into words ("A-WALL-EXTR", "Space Bedroom", "livingRoom"),
of which the first that is known decides. A room with a name that nobody listed keeps it: `category` only
writes it plainly.
"""

from __future__ import annotations

import re
from functools import lru_cache

from kuosan.modalities.plan_raw import Kind

ROOM, SHAFT, ENTRANCE = "room", "shaft", "entrance"
WALL = "wall"

PARTS: dict[str, str] = {
    "wall": WALL, "walls": WALL, "mur": WALL, "wand": WALL, "railing": WALL, "outline": WALL, "seina": WALL,
    "door": "door", "doors": "door", "entry": "door", "exit": "door",
    "window": "window", "windows": "window", "glazing": "window", "glaz": "window",
    "opening": "opening", "openings": "opening", "gap": "opening",
}  # fmt: skip
# what furnishes a room or explains a drawing, and is neither a room nor a wall
ICONS = frozenset(
    "bathtub toilet washing_basin cooking_counter special point furniture icon icons symbol dimension dimensions text "
    "label labels hatch grid axis sink stove fixedfurniture boundary north title".split()
)
SYNONYMS: dict[str, str] = {
    "bed": "bedroom", "master_bedroom": "bedroom", "guest_room": "bedroom", "child_room": "bedroom",
    "living": "living_room", "livingroom": "living_room", "lounge": "living_room", "sitting_room": "living_room",
    "bath": "bathroom", "wc": "restroom", "lavatory": "restroom", "powder_room": "restroom",
    "hall": "corridor", "hallway": "corridor", "passage": "corridor", "lobby": "corridor",
    "entry_lobby": ENTRANCE, "foyer": ENTRANCE, "entryway": ENTRANCE, "terrace": "balcony", "loggia": "balcony",
    "wardrobe": "closet", "storage": "closet", "store": "closet", "ps": SHAFT, "duct": SHAFT, "void": SHAFT,
    "pipe_space": SHAFT, "laundry": "washing_room", "dining": "dining_room", "stair": "stairs", "staircase": "stairs",
    "undefined": ROOM, "unknown": ROOM, "space": ROOM, "other": ROOM, "rooms": ROOM,
}  # fmt: skip


@lru_cache(4096)
def plain(name: str) -> str:
    """A name in small letters and underscores.

    >>> plain("LivingRoom 2"), plain("bedroom2"), plain("A-WALL-EXTR")
    ('living_room', 'bedroom', 'a_wall_extr')
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    words = re.split(r"[\W_]+", spaced.lower())
    return "_".join(w.rstrip("0123456789") for w in words if w and not w.isdigit())


@lru_cache(4096)
def category(name: str) -> str:
    """What a room with this name is called here; "room" where it has none.

    >>> category("WC"), category("Sauna"), category("Bed room"), category("")
    ('restroom', 'sauna', 'bedroom', 'room')
    """
    word = plain(name)
    first, _, rest = word.partition("_")
    word = rest if first in ("space", "room") and rest else word  # "Space Bedroom", "room: kitchen"
    joined = word.replace("_", "")
    for known in (*SYNONYMS.values(), "kitchen"):
        if joined == known.replace("_", ""):
            return known
    return SYNONYMS.get(word, SYNONYMS.get(joined, word)) or ROOM


@lru_cache(4096)
def part_of(name: str) -> str | None:
    """Whether a layer or class of this name holds walls, doors, windows, openings, "icon"s, or (None) perhaps rooms.

    >>> part_of("A-DOOR"), part_of("walls"), part_of("bedroom"), part_of("washing_basin")
    ('door', 'wall', None, 'icon')
    """
    word = plain(name)
    if word in ICONS or word.replace("_", "") in ICONS:
        return "icon"
    return next((PARTS[w] for w in word.split("_") if w in PARTS), None)


def kind_of_part(part: str) -> Kind | None:
    """The kind of opening that a part is."""
    return {"door": "door", "window": "window", "opening": "opening"}.get(part)  # type: ignore[return-value]
