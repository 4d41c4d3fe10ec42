"""What the names of files say of motions: humanoid3d_dance_a.json and humanoid3d_dance_b.json are both a dance.

Of a name, words count that are neither numbers nor single letters nor counters (take3, subject2), without the digits at
their ends and without what nearly all names begin with.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

NEARLY_ALL = 0.8  # of the names
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
    rows = [[word for word in row if not _COUNTERS.match(word)] for row in rows]
    while starts := Counter(row[0] for row in rows if row):
        first, count = starts.most_common(1)[0]
        longer = sum(len(row) > 1 and row[0] == first for row in rows)
        if count < NEARLY_ALL * len(rows) or longer < count or count < 2:
            break
        rows = [row[1:] if row and row[0] == first else row for row in rows]
    words = [" ".join(row) for row in rows]
    if len({w for w in words if w}) < 2:
        return [None] * len(stems)
    return [w or None for w in words]
