r"""Regular expressions as automata over characters.

The syntax is that of Python's ``re``, read by Python's own parser, so that a pattern means here what it means
to `re.fullmatch`: classes over all of Unicode, repetitions, alternatives, groups and inline flags. What no finite
automaton can do (references to groups) and what looks outside the match (look-around, ``\b``) is refused. ``^``
and ``$`` stand for the very beginning and end of the text. Greedy or lazy makes no difference to which texts
match as a whole.

The tree becomes a nondeterministic automaton with empty moves (Thompson 1968), and that a deterministic one whose
states are sets of its nodes (Rabin & Scott 1959).
"""

from __future__ import annotations

import re
from re import _constants as c  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import numpy as np

from kuosan.errors import UserError
from kuosan.guidance.language.automaton import DEAD, MOST_STATES, Automaton, finished
from kuosan.guidance.language.characters import (
    EVERY,
    Set,
    any_case,
    complement,
    digits,
    partition,
    spaces,
    union,
    words,
)

_ASCII: Set = ((0, 127),)
_NEWLINE: Set = ((10, 10),)
_CATEGORIES = {
    c.CATEGORY_DIGIT: (digits, False),
    c.CATEGORY_NOT_DIGIT: (digits, True),
    c.CATEGORY_SPACE: (spaces, False),
    c.CATEGORY_NOT_SPACE: (spaces, True),
    c.CATEGORY_WORD: (words, False),
    c.CATEGORY_NOT_WORD: (words, True),
}
_REFUSED = {
    c.GROUPREF: "a reference to a group",
    c.GROUPREF_EXISTS: "a reference to a group",
    c.ASSERT: "look-around",
    c.ASSERT_NOT: "look-around",
    c.ATOMIC_GROUP: "an atomic group",
    c.POSSESSIVE_REPEAT: "a possessive repetition",
}


def matching(pattern: str, ignore_case: bool = False, what: str | None = None) -> Automaton:
    """All texts that match the regular expression as a whole.

    Args:
        pattern: in the syntax of Python's `re`.
        ignore_case: as if it began with ``(?i)``; every other case that Unicode knows of a letter counts.
        what: the constraint in words, for messages; the pattern itself unless given.

    Raises:
        UserError: the pattern is malformed, uses what no automaton can do, is far too large, or matches nothing.
    """
    what = what or f"the pattern {pattern!r}"
    try:
        tree = _parser.parse(pattern, re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError, RecursionError) as e:
        raise UserError(f"{what} is no regular expression: {e}") from e
    graph = _Graph(what)
    end = graph.sequence(tree, tree.state.flags, graph.node())
    return _deterministic(graph, end)


class _Graph:
    """The nondeterministic automaton: nodes with empty moves, and at most one move that reads a character."""

    def __init__(self, what: str):
        self.what = what
        self.sets: dict[Set, int] = {}
        self.reads: list[tuple[int, int] | None] = []  # (set, target)
        self.empty: list[list[int]] = []
        self.at_start: list[tuple[int, int]] = []  # empty moves that only the beginning of the text allows
        self.at_end: list[tuple[int, int]] = []

    def node(self) -> int:
        if len(self.reads) > 10 * MOST_STATES:
            raise UserError(f"{self.what} is too large: shorten its repetitions")
        self.reads.append(None)
        self.empty.append([])
        return len(self.reads) - 1

    def sequence(self, items: Any, flags: int, node: int) -> int:
        """Append ``items`` after ``node``; the node where they end."""
        for kind, argument in items:
            node = self._item(kind, argument, flags, node)
        return node

    def _item(self, kind: Any, argument: Any, flags: int, node: int) -> int:
        if kind is c.SUBPATTERN:
            _, add, remove, items = argument
            return self.sequence(items, (flags | add) & ~remove, node)
        if kind is c.BRANCH:
            end = self.node()
            for items in argument[1]:
                start = self.node()
                self.empty[node].append(start)
                self.empty[self.sequence(items, flags, start)].append(end)
            return end
        if kind in (c.MAX_REPEAT, c.MIN_REPEAT):
            least, most, items = argument
            return self._repeat(least, most, items, flags, node)
        end = self.node()
        if kind is c.AT:
            self._anchor(argument, flags, node, end)
        else:
            chars = self._set(kind, argument, flags)
            self.reads[node] = (self.sets.setdefault(chars, len(self.sets)), end)
        return end

    def _repeat(self, least: int, most: int, items: Any, flags: int, node: int) -> int:
        for _ in range(least):
            node = self.sequence(items, flags, self._after(node))
        if most == c.MAXREPEAT:
            loop = self._after(node)
            self.empty[self.sequence(items, flags, self._after(loop))].append(loop)
            return self._after(loop)
        end = self.node()
        for _ in range(most - least):
            self.empty[node].append(end)
            node = self.sequence(items, flags, self._after(node))
        self.empty[node].append(end)
        return end

    def _after(self, node: int) -> int:
        new = self.node()
        self.empty[node].append(new)
        return new

    def _anchor(self, where: Any, flags: int, node: int, end: int) -> None:
        if where in (c.AT_BEGINNING, c.AT_BEGINNING_STRING) and not flags & re.MULTILINE:
            self.at_start.append((node, end))
        elif where in (c.AT_END, c.AT_END_STRING) and not flags & re.MULTILINE:
            self.at_end.append((node, end))
        else:
            raise UserError(
                f"{self.what} uses an anchor other than ^ and $: write out what may stand there instead"
            )

    def _set(self, kind: Any, argument: Any, flags: int) -> Set:
        if kind is c.ANY:
            return EVERY if flags & re.DOTALL else complement(_NEWLINE)
        if kind is c.IN:
            negated = bool(argument) and argument[0][0] is c.NEGATE
            chars = union(i for k, a in argument[negated:] for i in self._set(k, a, flags))
            return complement(chars) if negated else chars
        if kind is c.CATEGORY and argument in _CATEGORIES:
            of, negated = _CATEGORIES[argument]
            chars = of()
            if flags & re.ASCII:
                chars = complement(union([*complement(chars), *complement(_ASCII)]))
            return complement(chars) if negated else chars
        if kind in (c.LITERAL, c.NOT_LITERAL, c.RANGE):
            chars = (argument,) if kind is c.RANGE else ((argument, argument),)
            chars = any_case(chars) if flags & re.IGNORECASE else chars
            return complement(chars) if kind is c.NOT_LITERAL else chars
        used = _REFUSED.get(kind, f"{kind}")
        raise UserError(f"{self.what} uses {used}, which no finite automaton can follow: write it without")

    def closure(self, nodes: set[int], extra: dict[int, list[int]]) -> set[int]:
        """All that empty moves reach."""
        found, stack = set(nodes), list(nodes)
        while stack:
            node = stack.pop()
            for target in (*self.empty[node], *extra.get(node, ())):
                if target not in found:
                    found.add(target)
                    stack.append(target)
        return found


def _deterministic(graph: _Graph, end: int) -> Automaton:
    """The subset construction, class of characters by class."""
    classes, members = partition(list(graph.sets))
    holders = [frozenset(j for j, own in enumerate(members) if k in own) for k in range(classes.count)]
    at_start, at_end = _moves(graph.at_start), _moves(graph.at_end)
    last = {n for n in range(len(graph.reads)) if end in graph.closure({n}, at_end)} if at_end else set()

    def kernel(nodes: set[int], extra: dict[int, list[int]]) -> frozenset[int]:
        """What matters of a set of nodes: those that read, and those that end the text."""
        reached = graph.closure(nodes, extra)
        return frozenset(n for n in reached if graph.reads[n] or n == end or n in last)

    after: dict[int, frozenset[int]] = {}
    start = kernel({0}, at_start)
    number, queue, rows = {start: 0}, [start], []
    # At the beginning of an empty text both kinds of anchors hold, in any order.
    empty = end in graph.closure(
        {0}, {n: at_start.get(n, []) + at_end.get(n, []) for n in {*at_start, *at_end}}
    )
    for state in queue:
        targets: dict[int, set[int]] = {}
        for read in filter(None, (graph.reads[n] for n in state)):
            if read[1] not in after:
                after[read[1]] = kernel({read[1]}, {})
            targets.setdefault(read[0], set()).update(after[read[1]])
        row, joint = [], dict[frozenset[int], int]()
        for held in holders:
            used = held.intersection(targets)
            if used not in joint:
                reached = frozenset[int]().union(*(targets[j] for j in used))
                if reached and reached not in number:
                    number[reached] = len(queue)
                    queue.append(reached)
                joint[used] = number[reached] if reached else DEAD
            row.append(joint[used])
        rows.append(row)
        if len(queue) > MOST_STATES:
            raise UserError(f"{graph.what} needs more than {MOST_STATES} states: shorten its repetitions")
    accepting = np.array([end in s or not last.isdisjoint(s) for s in queue])
    accepting[0] |= empty
    return finished(classes, np.array(rows, dtype=np.int64), accepting, graph.what)


def _moves(pairs: list[tuple[int, int]]) -> dict[int, list[int]]:
    out: dict[int, list[int]] = {}
    for node, target in pairs:
        out.setdefault(node, []).append(target)
    return out
