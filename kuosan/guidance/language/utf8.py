"""From bytes to classes of characters.

Tokens are bytes, and a token may end in the middle of a character. So classes of characters are read through a
small automaton over bytes: from its root, each byte leads to a node that waits for more bytes, or completes a
character and names its class. Overlong forms, surrogates and numbers past the last code point lead nowhere, as
in RFC 3629. Nodes whose continuations mean the same are one node, so that "any character" takes eight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kuosan.guidance.language.characters import TOP, Classes

_INVALID = -1
_SURROGATES = (0xD800, 0xE000)


@dataclass(frozen=True)
class Utf8:
    """``nodes[n][byte]`` is the next node, or -2 - c where class c of a character is complete, or -1; 0 is the root."""

    nodes: list[list[int]]

    def read(self, piece: bytes, node: int) -> tuple[tuple[int, ...], int] | None:
        """The classes of the characters that ``piece`` completes from ``node``, and the node where it ends."""
        seen = []
        for byte in piece:
            node = self.nodes[node][byte]
            if node == _INVALID:
                return None
            if node < 0:
                seen.append(-2 - node)
                node = 0
        return tuple(seen), node


def utf8(classes: Classes) -> Utf8:
    """The automaton over bytes of a partition of the characters."""
    root = [_INVALID] * 256
    nodes, known = [root], dict[tuple[int, ...], int]()
    for byte in range(0x80):
        root[byte] = -2 - int(classes.labels[np.searchsorted(classes.starts, byte, side="right") - 1])
    # (first lead byte, first code point of that byte, bytes that follow, first valid code point, one past the last)
    for lead, count, more, least, most in (
        (0xC0, 32, 1, 0x80, 0x800),
        (0xE0, 16, 2, 0x800, 0x10000),
        (0xF0, 8, 3, 0x10000, TOP),
    ):
        starts, labels = _valid(classes, least, most)

        def node(first: int, more: int, starts=starts, labels=labels) -> int:  # type: ignore[no-untyped-def]
            """What stands for the code points first … first + 64^more - 1."""
            a, b = np.searchsorted(starts, (first, first + 64**more - 1), side="right") - 1
            kinds = set(labels[a : b + 1].tolist())
            if kinds == {_INVALID}:
                return _INVALID
            if not more:
                return -2 - kinds.pop()
            step = 64 ** (more - 1)
            alike = len(kinds) == 1
            different = [node(first + j * step, more - 1) for j in range(1 if alike else 64)]
            children = tuple(different * 64 if alike else different)
            if children not in known:
                known[children] = len(nodes)
                nodes.append([*[_INVALID] * 0x80, *children, *[_INVALID] * 0x40])
            return known[children]

        for j in range(count):
            root[lead + j] = node(j << 6 * more, more)
    return Utf8(nodes)


def _valid(classes: Classes, least: int, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The classes between two code points, with `_INVALID` around them and at surrogates."""
    starts = np.union1d(classes.starts, [least, most, *_SURROGATES])
    labels = classes.labels[np.searchsorted(classes.starts, starts, side="right") - 1]
    surrogate = (starts >= _SURROGATES[0]) & (starts < _SURROGATES[1])
    return starts, np.where((starts < least) | (starts >= most) | surrogate, _INVALID, labels)
