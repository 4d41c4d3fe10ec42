"""Which items are trained on and which are held out, decided by what they hold and not by their names.

Exact copies of a picture on both sides would make memorising look like learning.  Items are therefore grouped
by the hash of their content; a group is never divided, and the groups with the smallest hashes are held out,
so the split does not depend on names or on the order of files.  Where the data brings its own held-out part
that part is kept as it is, and training items that are copies of it are left out.

Where items are parts of something larger (passages of a document), `groups` say what they are parts of.  A
group then takes the place of the hash: it is kept together, and held out by the order of its digest.

Counts: 5 % are held out, at least 32, where there are 320 items or more; below that 10 %, at least 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kuosan.modalities.base import Choice

Labels = tuple[int, ...]  # an item's place in each vocabulary; -1 where unknown


@dataclass(frozen=True)
class Plan:
    """Indices of both sides in ascending order, and what was found out about duplicates."""

    train: list[int]
    val: list[int]
    duplicates: dict[str, Any]
    choices: list[Choice]


def held_out_count(n: int) -> int:
    """How many of n items are held out; a single item is trained on."""
    if n >= 320:
        return max(32, round(0.05 * n))
    return max(1, round(0.1 * n)) if n > 1 else 0


def plan_split(
    hashes: Sequence[bytes],
    labels: Sequence[Labels],
    sides: Sequence[str],
    names: Sequence[str],
    groups: Sequence[bytes] | None = None,
    why: str = "",
) -> Plan:
    """Removes exact copies and splits; all sequences have one element per item.

    Items of one of `groups` (the hashes unless given) are never divided, and copies always count as one; `why` says
    who decided `sides` (the data unless given).
    """
    first: dict[bytes, bytes] = {}
    together = [first.setdefault(h, g) for h, g in zip(hashes, groups or hashes, strict=True)]
    explicit = "val" in sides
    val_given = [i for i, side in enumerate(sides) if side == "val"] if explicit else []
    pool = [i for i, side in enumerate(sides) if side != "val"] if explicit else list(range(len(hashes)))
    held = {hashes[i] for i in val_given}
    across = [i for i in pool if hashes[i] in held]
    kept, copies = _without_copies([i for i in pool if hashes[i] not in held], hashes, labels)
    if explicit:
        train, val = kept, val_given
        choices = [("held-out items", f"{len(val):,}", why or "the data comes with its own held-out part")]
        choices += _across_choice(len(across))
    else:
        train, val = _by_hash(kept, together)
        rule = "5 %, at least 32 of 320" if len(kept) >= 320 else "10 %, at least 1"
        choices = [
            (
                "held-out items",
                f"{len(val):,} of {len(kept):,}",
                f"{rule}; chosen by the hash of their content",
            )
        ]
    if not train:
        train, val = val, []
        choices.append(("held-out items", "0", "every training item is a copy of a held-out one"))
    if not val:
        choices.append(("held-out items", "0", "there are too few different items to hold any out"))
    alike: dict[bytes, list[int]] = defaultdict(list)
    for i, digest in enumerate(hashes):
        alike[digest].append(i)
    repeated = [group for group in alike.values() if len(group) > 1]
    duplicates = {
        "items_repeated": len(repeated),
        "extra_copies": sum(len(group) - 1 for group in repeated),
        "removed_from_training": len(copies) + len(across),
        "removed_copies_of_held_out": len(across),
        "with_different_labels": sum(_conflict(group, labels) for group in repeated),
        "examples": [[names[i] for i in group[:6]] for group in repeated[:20]],
    }
    if copies:
        choices.append(("exact duplicates", f"{len(copies):,} copies left out", "one copy of each is enough"))
    return Plan(sorted(train), sorted(val), duplicates, choices)


def _across_choice(count: int) -> list[Choice]:
    if not count:
        return []
    why = "they are exact copies of held-out items, whose loss would not be honest otherwise"
    return [("training items left out", f"{count:,}", why)]


def _without_copies(
    items: list[int], hashes: Sequence[bytes], labels: Sequence[Labels]
) -> tuple[list[int], list[int]]:
    """Of items with equal content and no contradiction in their labels, the one with most labels known."""
    kept_of: dict[bytes, list[int]] = defaultdict(list)
    copies = []
    for i in sorted(items, key=lambda i: (labels[i].count(-1), i)):
        fellows = kept_of[hashes[i]]
        if any(_agree(labels[i], labels[j]) for j in fellows):
            copies.append(i)
        else:
            fellows.append(i)
    return sorted(i for fellows in kept_of.values() for i in fellows), copies


def _by_hash(items: list[int], digests: Sequence[bytes]) -> tuple[list[int], list[int]]:
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i in items:
        groups[digests[i]].append(i)
    wanted = held_out_count(len(items))
    train: list[int] = []
    val: list[int] = []
    for position, digest in enumerate(sorted(groups)):
        group = groups[digest]
        last = position == len(groups) - 1
        fits = len(val) + len(group) <= wanted and not (last and not train)
        (val if fits else train).extend(group)
    return train, val


def _agree(one: Labels, other: Labels) -> bool:
    return all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _conflict(group: list[int], labels: Sequence[Labels]) -> bool:
    return any(not _agree(labels[group[0]], labels[i]) for i in group[1:])
