"""What the names of files say of motions: humanoid3d_dance_a.json and humanoid3d_dance_b.json are both a dance.

Of a name, words count that are neither numbers nor single letters nor counters (take3, subject2), without the digits at
their ends and without those that all names begin with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPLIT = re.compile(r"[_\-\s.]+")
_COUNTERS = re.compile(
    r"^(subject|subj|take|clip|trial|seq|rep|motion|export)?\d*$|^[a-z]\d*$", re.IGNORECASE
)


def labels_of(stems: Sequence[str]) -> list[str | None]:
    """A label for each name; None for all where they tell nothing apart.

    >>> labels_of(["run_01", "run_02", "high_jump_01"]), labels_of(["02_01", "02_03"])
    (['run', 'run', 'high jump'], [None, None])
    """
    rows = [[word.rstrip("0123456789") or word for word in _SPLIT.split(stem) if word] for stem in stems]
    shared = 0
    while (
        len(rows) > 1 and all(len(row) > shared + 1 for row in rows) and len({r[shared] for r in rows}) == 1
    ):
        shared += 1
    words = [" ".join(w for w in row[shared:] if not _COUNTERS.match(w)) for row in rows]
    if len({w for w in words if w}) < 2:
        return [None] * len(stems)
    return [w or None for w in words]
