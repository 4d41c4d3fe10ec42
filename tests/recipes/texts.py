"""A small corpus for runs over texts: sentences of a tiny grammar, in two classes."""

from __future__ import annotations

import random
from pathlib import Path

SUBJECTS = ("the cat", "a dog", "my aunt", "the old king", "one small bird")
VERBS = {"day": ("sees", "likes", "paints"), "night": ("hears", "dreams of", "hides from")}
OBJECTS = ("the sea", "a red door", "two apples", "nobody", "the long road")


def sentence(kind: str, chance: random.Random) -> str:
    return f"{chance.choice(SUBJECTS)} {chance.choice(VERBS[kind])} {chance.choice(OBJECTS)}."


def corpus(folder: Path, items: int = 240) -> Path:
    """``folder`` with day/ and night/, a file of one to three sentences each."""
    chance = random.Random(0)
    for i in range(items):
        kind = ("day", "night")[i % 2]
        text = " ".join(sentence(kind, chance) for _ in range(chance.randint(1, 3)))
        path = folder / kind / f"{i:04d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + f" {i}\n", encoding="utf-8")
    return folder
