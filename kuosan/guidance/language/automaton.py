"""Constraints on text as deterministic automata over characters.

A constraint is a set of texts that a finite automaton can tell: states s, a start, a transition δ(s, c) for each
class c of characters, and a set of accepting states. A text satisfies it where its walk from the start ends in
one of them. Such sets are closed under everything that is asked of them,

    both:     (s, s') accepts where s and s' both do,      δ((s, s'), c) = (δ(s, c), δ'(s', c))        (1)
    not:      s accepts where it did not,                  on the completed automaton                   (2)

so required and forbidden words, lengths, beginnings and ends are patterns, joined with ``&`` and ``~``. States
from which nothing is accepted any more are dropped at once; those that accept the same continuations are merged
(Moore 1956), which keeps intersections small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from kuosan.errors import UserError
from kuosan.guidance.language.characters import Classes, common

DEAD = -1
MOST_STATES = 20_000
"""More than any constraint that a model of this size could follow; a pattern beyond it is a slip."""


@dataclass(frozen=True)
class Automaton:
    """A set of texts. Make one with `patterns`' functions; join with ``&``, invert with ``~``.

    Args:
        classes: which characters behave alike.
        table: (states, classes) the next state, or `DEAD`; state 0 is the start.
        accepting: (states,) where a text may end.
        what: the constraint in words, for messages.
    """

    classes: Classes
    table: NDArray[np.int64]
    accepting: NDArray[np.bool_]
    what: str

    def accepts(self, text: str) -> bool:
        """Whether ``text`` satisfies the constraint."""
        state = 0
        for c in self.classes.of(text).tolist():
            state = int(self.table[state, c])
            if state == DEAD:
                return False
        return bool(self.accepting[state])

    def __and__(self, other: Automaton) -> Automaton:
        """The texts that satisfy both (eq. 1).

        Raises:
            UserError: there is none.
        """
        classes, of_self, of_other = common(self.classes, other.classes)
        left, right = self.table[:, of_self], other.table[:, of_other]
        width = len(right)
        number = np.full(len(left) * width, DEAD)
        number[0] = 0
        found, frontier = [np.zeros(1, dtype=np.int64)], np.zeros(1, dtype=np.int64)
        count = 1
        while len(frontier):
            pairs = _pairs(left, right, frontier, width)
            fresh = np.unique(pairs[pairs != DEAD])
            frontier = fresh[number[fresh] == DEAD]
            number[frontier] = np.arange(count, count + len(frontier))
            count += len(frontier)
            found.append(frontier)
            _bounded(count, f"{self.what} and {other.what}")
        codes = np.concatenate(found)
        pairs = _pairs(left, right, codes, width)
        table = np.where(pairs == DEAD, DEAD, number[pairs])
        accepting = self.accepting[codes // width] & other.accepting[codes % width]
        return finished(classes, table, accepting, f"{self.what} and {other.what}")

    def __invert__(self) -> Automaton:
        """The texts that do not satisfy it (eq. 2).

        Raises:
            UserError: every text does.
        """
        sink = len(self.table)
        table = np.vstack([self.table, np.full((1, self.table.shape[1]), sink)])
        table[table == DEAD] = sink
        return finished(self.classes, table, np.append(~self.accepting, True), f"not {self.what}")

    def named(self, what: str) -> Automaton:
        """The same, called ``what`` in messages."""
        return replace(self, what=what)


def intersection(*automata: Automaton) -> Automaton:
    """The texts that satisfy all, one or more; the smallest are joined first."""
    return reduce(Automaton.__and__, sorted(automata, key=lambda a: len(a.table)))


def finished(
    classes: Classes, table: NDArray[np.int64], accepting: NDArray[np.bool_], what: str
) -> Automaton:
    """The smallest automaton of the same texts.

    Raises:
        UserError: it accepts no text.
    """
    if not can_accept(table, accepting)[0]:
        raise UserError(f"no text satisfies {what}: loosen it, or look for parts that contradict each other")
    table, accepting = smallest(table, accepting)
    table, merged = np.unique(table, axis=1, return_inverse=True)
    labels = merged.reshape(-1)[classes.labels]
    edge = np.append(True, labels[1:] != labels[:-1])
    return Automaton(Classes(classes.starts[edge], labels[edge]), table, accepting, what)


def smallest(
    table: NDArray[np.int64], accepting: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Transitions and accepting states without what is unreachable, dead or double; the start stays state 0."""
    alive = can_accept(table, accepting)
    table = np.where((table != DEAD) & alive[table], table, DEAD)
    alive &= np.isfinite(_distances(*_edges(table), np.zeros(1, dtype=np.int64), len(table)))
    part = equivalent(np.where(alive[:, None], table, DEAD), accepting)
    order = np.sort(np.unique(part[alive], return_index=True)[1])
    order = np.flatnonzero(alive)[order]  # the first state of each class, in the order of the states
    number = np.full(len(table), DEAD)
    number[part[order]] = np.arange(len(order))
    return np.where(table[order] == DEAD, DEAD, number[part[table[order]]]), accepting[order]


def can_accept(table: NDArray[np.int64], accepting: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(states,) whether some continuation is accepted."""
    return np.isfinite(_to_accept(table, accepting))


def _to_accept(table: NDArray[np.int64], accepting: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(states,) how many characters, at least, a text still needs; inf where none helps."""
    source, target = _edges(table)
    return _distances(target, source, np.flatnonzero(accepting), len(table))


def _edges(table: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    source, column = np.nonzero(table != DEAD)
    return source, table[source, column]


def _distances(
    source: NDArray[np.int64], target: NDArray[np.int64], begin: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """(states,) the fewest edges from any of ``begin``."""
    source, target = np.append(source, np.full(len(begin), count)), np.append(target, begin)
    graph = csr_array((np.ones(len(source), dtype=np.int8), (source, target)), shape=(count + 1, count + 1))
    return dijkstra(graph, indices=count, unweighted=True)[:count] - 1


def equivalent(table: NDArray[np.int64], accepting: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(states,) the number of each state's class of equivalence, by Moore's refinement.

    Rows are compared by random 64-bit sums. A collision could only stop the refinement early, which the exact
    comparison at the end would find.
    """
    rng = np.random.Generator(np.random.Philox(0))
    # Equivalent states are equally far from acceptance, which tells the many states of a length apart at once.
    part = np.unique(_to_accept(table, accepting), return_inverse=True)[1].reshape(-1)
    count = 0
    while True:
        weights = rng.integers(1, 1 << 62, size=table.shape[1] + 1, dtype=np.int64)
        rows = np.where(table == DEAD, DEAD, part[table])
        key = (rows * weights[:-1]).sum(1) + part * weights[-1]  # wraps around, as a hash may
        kinds, first, new = np.unique(key, return_index=True, return_inverse=True)
        if len(kinds) == count and (rows == rows[first[new]]).all():
            return new.reshape(-1)
        part, count = new.reshape(-1), len(kinds)


def _pairs(
    left: NDArray[np.int64], right: NDArray[np.int64], codes: NDArray[np.int64], width: int
) -> NDArray[np.int64]:
    a, b = left[codes // width], right[codes % width]
    return np.where((a == DEAD) | (b == DEAD), DEAD, a * width + b)


def _bounded(count: int, what: str) -> None:
    if count > MOST_STATES:
        raise UserError(
            f"{what} needs more than {MOST_STATES} states: shorten its repetitions or its list of words"
        )
